"""`grpc.health.v1`: the server's readiness and each model's, to check or to watch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from naiad.core.errors import NotFoundError
from naiad.services.status import rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from grpc.aio import ServicerContext

    from naiad.dataplane import DataPlane
    from naiad.services.calls import Calls

    Context = ServicerContext[Any, Any]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped base
    """Check and Watch. The service name is empty for the server, a gRPC service's name, or a model's name.

    Nothing is stored: each answer is read off the models. An open Watch hears NOT_SERVING and ends when the
    server drains, so that watchers never hold it up.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        is_ready: Callable[[], bool],
        grpc_services: Collection[str],
        calls: Calls,
    ) -> None:
        self._dataplane = dataplane
        self.calls = calls
        self._is_ready = is_ready
        self._whole_server = frozenset(("", *grpc_services))
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Have every watcher look again: a model changed its state, or the server drains."""
        self._changed.set()
        self._changed = asyncio.Event()

    @rpc
    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The status now; NOT_FOUND for a name that is neither a service nor a model."""
        status = self._status(request.service)
        if status == SERVICE_UNKNOWN:
            raise NotFoundError(f"'{request.service}' is neither a service nor a model of this server")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now and after each change, until the caller leaves or the server drains."""
        told = None
        while True:
            # Taken before the look, so that a change after it wakes the wait below.
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            if not self._dataplane.accepting:
                return
            await changed.wait()

    def _status(self, service: str) -> int:
        manager = self._dataplane.manager
        if service in self._whole_server:
            serving = self._is_ready()
        elif service in manager.model_names():
            serving = self._dataplane.accepting and manager.is_ready(service, None)
        else:
            return int(SERVICE_UNKNOWN)
        return int(SERVING if serving else NOT_SERVING)
