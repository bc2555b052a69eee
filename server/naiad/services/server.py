"""The gRPC server: every service registered, listening, and stopped in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.services.experiments import ExperimentService
from naiad.services.grpc_transport import (
    INFERENCE_SERVICE,
    VISION_SERVICE,
    check_port_free,
    create_server,
    register_services,
)
from naiad.services.health import HealthService
from naiad.services.inference import InferenceService
from naiad.services.vision import VisionService

if TYPE_CHECKING:
    from naiad.config.server_config import ServerConfig
    from naiad.dataplane import DataPlane
    from naiad.dataplane.faces import FacePlane
    from naiad.dataplane.frames.rooms import FrameRooms
    from naiad.lifecycle.experiments.director import Experiments
    from naiad.services.grpc_settings import GrpcSettings
    from naiad.services.triton import TritonService

__all__ = ["GrpcServer", "check_port_free"]

LAST_GRACE_S = 0.2
"""How long the transport may take to write out the last answers."""


class GrpcServer:
    """Owns gRPC's transport and the services on it; the calls at work are counted by `triton.calls`."""

    def __init__(
        self,
        settings: GrpcSettings,
        config: ServerConfig,
        dataplane: DataPlane,
        triton: TritonService,
        faces: FacePlane,
        *,
        rooms: FrameRooms,
        experiments: Experiments,
    ) -> None:
        self._dataplane = dataplane
        self._calls = triton.calls
        self._health = HealthService(
            dataplane, triton.server_ready, (INFERENCE_SERVICE, VISION_SERVICE), self._calls
        )
        dataplane.manager.on_state = self._health.changed
        self._server = create_server(settings)
        register_services(
            self._server,
            inference=InferenceService(
                triton,
                max_message_bytes=settings.max_message_bytes,
                stream_max_in_flight=config.stream_max_in_flight,
                forward_pattern=settings.header_forward_pattern,
            ),
            vision=VisionService(faces, config, self._calls, rooms),
            experiments=ExperimentService(
                experiments, self._calls, takes_decisions=config.allow_experiment_decisions
            ),
            health=self._health,
        )

    async def start(self) -> int:
        """Listen and return the port.

        Raises:
            UnavailableError: the address cannot be bound.
        """
        return await self._server.start()

    def begin_drain(self) -> None:
        """Health off, no new work; health is answered until the port closes."""
        self._dataplane.stop_accepting()
        self._health.changed()
        self._calls.begin_drain()
        self._server.begin_drain()

    async def answered(self, limit_s: float) -> bool:
        """Wait up to `limit_s` seconds for the calls at work; whether all were answered."""
        answered = await self._calls.answered(limit_s)
        if answered:
            await self._calls.quiet()
        return answered

    async def close(self) -> None:
        """Close the port, and cancel what is still at work."""
        # What is left are calls that were refused, and streams that nobody counts, such as reflection.
        await self._server.stop(LAST_GRACE_S)
