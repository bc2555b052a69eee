"""gRPC's server as the settings want it: options, TLS, restricted protocols, and every service registered."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer  # what `reflection.aio` names
from tritonclient.grpc import service_pb2, service_pb2_grpc

from naiad.core.errors import UnavailableError
from naiad.services.grpc_decoding import DecodingServer
from naiad.services.grpc_restrictions import RestrictionInterceptor, Restrictions
from naiad.services.grpc_settings import Transport, channel_options, is_unix_socket, listen_target
from naiad.services.http2.server import Http2Server
from naiad.services.tls import CERT_FLAG, CertificateReloader
from naiad_protos.naiad.experiments.v1 import experiments_pb2, experiments_pb2_grpc
from naiad_protos.naiad.vision.v1 import vision_pb2, vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.services.grpc_settings import GrpcSettings

INFERENCE_SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
VISION_SERVICE = vision_pb2.DESCRIPTOR.services_by_name["VisionService"].full_name
EXPERIMENT_SERVICE = experiments_pb2.DESCRIPTOR.services_by_name["ExperimentService"].full_name
HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


def register_services(
    server: Any,
    *,
    inference: service_pb2_grpc.GRPCInferenceServiceServicer,
    vision: vision_pb2_grpc.VisionServiceServicer,
    experiments: experiments_pb2_grpc.ExperimentServiceServicer | None = None,
    health: health_pb2_grpc.HealthServicer,
) -> None:
    """Register every service, and the reflection that tells of them.

    The server is `Any`, as generated code takes it: a `GrpcTransport`, or whatever else takes handlers.
    """
    server = DecodingServer(server)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, server)
    vision_pb2_grpc.add_VisionServiceServicer_to_server(vision, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = [INFERENCE_SERVICE, VISION_SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME]
    if experiments is not None:
        experiments_pb2_grpc.add_ExperimentServiceServicer_to_server(experiments, server)
        names.append(EXPERIMENT_SERVICE)
    # By its parts: `enable_server_reflection` would take the wrapped server for one of threads.
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionServicer(names), server)


class GrpcTransport(Protocol):
    """What carries gRPC's calls to the services that are registered on it."""

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> None:
        """Answer the methods of these handlers."""

    async def start(self) -> int:
        """Listen and serve; returns the port.

        Raises:
            InvalidArgumentError: the certificate files changed since the settings were made, and are wrong.
            UnavailableError: the address cannot be bound, or the certificate cannot be used.
        """

    def begin_drain(self) -> None:
        """Ask clients to go elsewhere, if the transport can; new ones are still told why not."""

    async def stop(self, grace_s: float | None) -> None:
        """Take no new calls, and cancel those at work after `grace_s` seconds."""


def create_server(settings: GrpcSettings) -> GrpcTransport:
    """The transport that the settings name; it listens nowhere yet."""
    restrictions = Restrictions(settings.restrictions) if settings.restrictions else None
    if settings.transport is Transport.GRPCIO:
        return GrpcioServer(settings, restrictions)
    return Http2Server(settings, restrictions)


class GrpcioServer:
    """gRPC's own server; without a restriction no call passes an interceptor."""

    def __init__(self, settings: GrpcSettings, restrictions: Restrictions | None) -> None:
        self._settings = settings
        interceptors = None if restrictions is None else [RestrictionInterceptor(restrictions)]
        self._server = grpc.aio.server(options=channel_options(settings), interceptors=interceptors)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> None:
        """See `GrpcTransport`."""
        self._server.add_generic_rpc_handlers(tuple(handlers))

    async def start(self) -> int:
        """See `GrpcTransport`."""
        port = self._listen()
        await self._server.start()
        return port

    def begin_drain(self) -> None:
        """Nothing: its connections hear of the end when it stops."""

    async def stop(self, grace_s: float | None) -> None:
        """See `GrpcTransport`."""
        await self._server.stop(grace_s)

    def _listen(self) -> int:
        target = listen_target(self._settings)
        tls = self._settings.tls
        try:
            if tls is None:
                return self._server.add_insecure_port(target)
            return self._server.add_secure_port(target, CertificateReloader(tls).credentials())
        except RuntimeError as error:
            hint = f", or gRPC cannot use the certificate ({CERT_FLAG})" if tls else ""
            raise UnavailableError(
                f"cannot listen on {target} (--grpc-address, --grpc-port){hint}: {error}"
            ) from None


def check_port_free(address: str, port: int, *, reuse_port: bool = False, flags: str = "grpc") -> None:
    """See that the port can be taken, before models are loaded for minutes.

    Args:
        address: a name or an IPv4 address is tried; of IPv6 and socket paths gRPC itself is the judge.
        port: 0 finds a free one, so nothing is tried.
        reuse_port: a port that others share in the same way counts as free.
        flags: whose address and port it is, as their flags begin.

    Raises:
        UnavailableError: it cannot, and why.
    """
    if port == 0 or not address or is_unix_socket(address) or ":" in address:
        return
    with socket.socket() as probe:
        # As gRPC does it: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {address}:{port} (--{flags}-address, --{flags}-port): "
                f"{error.strerror or error}"
            ) from None
