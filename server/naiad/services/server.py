"""The gRPC server: every service registered, listening, and stopped in order."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2, service_pb2_grpc

from naiad.core.errors import UnavailableError
from naiad.services.calls import Calls
from naiad.services.health import HealthService
from naiad.services.inference import InferenceService
from naiad.services.vision import VisionService
from naiad_protos.naiad.vision.v1 import vision_pb2, vision_pb2_grpc

if TYPE_CHECKING:
    from naiad.config.server_config import ServerConfig
    from naiad.dataplane import DataPlane
    from naiad.dataplane.faces import FacePlane

INFERENCE_SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
VISION_SERVICE = vision_pb2.DESCRIPTOR.services_by_name["VisionService"].full_name
HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


LAST_GRACE_S = 0.2
"""How long gRPC may take to write out the last answers when its server stops."""


def check_port_free(address: str, port: int) -> None:
    """See that the port can be taken, before models are loaded for minutes.

    Raises:
        UnavailableError: it cannot, and why.
    """
    if port == 0 or ":" in address or not address:
        return  # a free port will be found; of IPv6 and socket paths gRPC itself is the judge
    with socket.socket() as probe:
        # As gRPC does it: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {address}:{port} (--grpc-address, --grpc-port): {error.strerror or error}"
            ) from None


class GrpcServer:
    """Owns the grpc.aio server and the services on it."""

    def __init__(self, config: ServerConfig, dataplane: DataPlane, faces: FacePlane) -> None:
        self._config = config
        self._dataplane = dataplane
        self._calls = Calls()
        self._inference = InferenceService(dataplane, config, self._calls)
        self._health = HealthService(
            dataplane, self._inference.is_ready, (INFERENCE_SERVICE, VISION_SERVICE), self._calls
        )
        dataplane.manager.on_state = self._health.changed
        self._server = grpc.aio.server(options=_options(config))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._inference, self._server)
        vision_pb2_grpc.add_VisionServiceServicer_to_server(
            VisionService(faces, config, self._calls), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (INFERENCE_SERVICE, VISION_SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> int:
        """Listen and return the port.

        Raises:
            UnavailableError: the address cannot be bound.
        """
        address = f"{self._config.grpc_address}:{self._config.grpc_port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot listen on {address} (--grpc-address, --grpc-port): {error}"
            ) from None
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> bool:
        """Health off, no new work, then wait up to `grace_s` seconds for the calls at work.

        Returns:
            Whether all of them were answered; those that were not are cancelled.
        """
        self._dataplane.stop_accepting()
        self._health.changed()
        self._calls.begin_drain()
        answered = await self._calls.answered(grace_s)
        if answered:
            await self._calls.quiet()
        # What is left are calls that were refused, and streams that nobody counts, such as reflection.
        await self._server.stop(LAST_GRACE_S)
        return answered


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.grpc_max_message_bytes),
        ("grpc.max_send_message_length", config.grpc_max_message_bytes),
        # Two servers on one port would share its calls at random; a taken port must be an error.
        ("grpc.so_reuseport", 0),
        # Triton's defaults: clients may ping every five minutes without a call at work.
        ("grpc.http2.min_ping_interval_without_data_ms", 300_000),
        ("grpc.http2.max_ping_strikes", 2),
    ]
