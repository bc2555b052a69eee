"""`grpc.health.v1`: the server's readiness and each model's, to check or to watch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from grpc.aio import ServicerContext

    from naiad.lifecycle.manager import ModelManager
    from naiad.services.streams import Draining

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class HealthService(HealthServicer):  # type: ignore[misc]  # untyped base
    """Check and Watch. The service name is empty for the server, a gRPC service's name, or a model's name.

    An open Watch hears NOT_SERVING and ends when the server drains, so that watchers never hold it up.
    """

    def __init__(self, draining: Draining) -> None:
        super().__init__()
        self._draining = draining

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: ServicerContext[Any, Any]) -> None:
        """Tell each change of a service's status until the caller leaves or the server drains."""
        watching = asyncio.create_task(super().Watch(request, context), name="health watch")
        drained = asyncio.create_task(self._draining.begun(), name="health drain")
        try:
            await asyncio.wait((watching, drained), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watching, drained):
                task.cancel()
            await asyncio.gather(watching, drained, return_exceptions=True)
        await context.write(health_pb2.HealthCheckResponse(status=NOT_SERVING))

    async def publish(
        self, manager: ModelManager, is_ready: Callable[[], bool], services: Iterable[str]
    ) -> None:
        """Set the server's, the gRPC services' and every model's status from what is loaded now."""
        overall = SERVING if is_ready() else NOT_SERVING
        for service in ("", *services):
            await self.set(service, overall)
        for name in manager.model_names():
            await self.set(name, SERVING if manager.is_ready(name, None) else NOT_SERVING)
