"""Restricted protocols on gRPC: the category of every method, and the interceptor that keeps the gate."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from naiad.core.errors import UnavailableError
from naiad.services.restricted import GRPC_KEY_PREFIX, Category
from naiad.services.status import abort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from grpc.aio import ServicerContext

    from naiad.services.restricted import Restriction

    Metadata = Iterable[tuple[str, str | bytes]]

_SERVICES: dict[str, dict[str, Category]] = {
    "inference.GRPCInferenceService": {
        "ServerLive": Category.HEALTH,
        "ServerReady": Category.HEALTH,
        "ModelReady": Category.HEALTH,
        "ServerMetadata": Category.METADATA,
        "ModelMetadata": Category.METADATA,
        "ModelInfer": Category.INFERENCE,
        "ModelStreamInfer": Category.INFERENCE,
        "ModelConfig": Category.MODEL_CONFIG,
        "ModelStatistics": Category.STATISTICS,
        "RepositoryIndex": Category.MODEL_REPOSITORY,
        "RepositoryModelLoad": Category.MODEL_REPOSITORY,
        "RepositoryModelUnload": Category.MODEL_REPOSITORY,
        "SystemSharedMemoryStatus": Category.SHARED_MEMORY,
        "SystemSharedMemoryRegister": Category.SHARED_MEMORY,
        "SystemSharedMemoryUnregister": Category.SHARED_MEMORY,
        "CudaSharedMemoryStatus": Category.SHARED_MEMORY,
        "CudaSharedMemoryRegister": Category.SHARED_MEMORY,
        "CudaSharedMemoryUnregister": Category.SHARED_MEMORY,
        "TraceSetting": Category.TRACE,
        "LogSettings": Category.LOGGING,
    },
    "naiad.vision.v1.VisionService": {
        "Detect": Category.INFERENCE,
        "Embed": Category.INFERENCE,
        "StreamDetect": Category.INFERENCE,
        "StreamEmbed": Category.INFERENCE,
        "Analyze": Category.INFERENCE,
        "Compare": Category.INFERENCE,
        "StreamAnalyze": Category.INFERENCE,
    },
    "naiad.experiments.v1.ExperimentService": {
        "ListExperiments": Category.STATISTICS,
        "GetReport": Category.STATISTICS,
        "Decide": Category.MODEL_REPOSITORY,
    },
    "grpc.health.v1.Health": {"Check": Category.HEALTH, "Watch": Category.HEALTH},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": Category.METADATA},
}

METHOD_CATEGORIES: Mapping[str, Category] = MappingProxyType(
    {
        f"/{service}/{method}": category
        for service, methods in _SERVICES.items()
        for method, category in methods.items()
    }
)
"""The category of every method that the server registers, by its path."""

UNSORTED = "This protocol is restricted, and no header opens it"


class _Gate:
    """One restriction: who passes, and what the others are told."""

    def __init__(self, restriction: Restriction) -> None:
        self._restriction = restriction
        # gRPC's metadata keys are lower-case on the wire.
        self._key = GRPC_KEY_PREFIX + restriction.key.lower()
        self.refusal = f"This protocol is restricted, expecting header '{self._key}'"

    def passes(self, metadata: Metadata) -> bool:
        return any(key == self._key and self._restriction.accepts(value) for key, value in metadata)


class Restrictions:
    """Which calls need a header.

    A method that has no category here is refused: what nobody sorted must not become a way around the rules.
    """

    def __init__(self, restrictions: Mapping[Category, Restriction]) -> None:
        gates = {category: _Gate(restriction) for category, restriction in restrictions.items()}
        self._gates = {path: gates.get(category) for path, category in METHOD_CATEGORIES.items()}

    def refusal(self, path: str, metadata: Metadata) -> str | None:
        """What a call of a method that there is must be told; None lets it through."""
        if path not in self._gates:
            return UNSORTED
        gate = self._gates[path]
        return None if gate is None or gate.passes(metadata) else gate.refusal


def _refusing(message: str) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that refuses any kind of call; as a stream's, it does not even read the message."""

    async def refuse(_requests: object, context: ServicerContext[Any, Any]) -> NoReturn:
        await abort(context, UnavailableError(message))

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(refuse)
    return handler


class RestrictionInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """`Restrictions` before the handlers of a grpc.aio server."""

    def __init__(self, restrictions: Restrictions) -> None:
        self._restrictions = restrictions

    async def intercept_service(  # type: ignore[override]  # None is "no such method", which the stubs forgot
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The method's own handler, or one that refuses the call as UNAVAILABLE."""
        handler: grpc.RpcMethodHandler[Any, Any] | None = await continuation(handler_call_details)
        if handler is None:
            return None
        refusal = self._restrictions.refusal(
            handler_call_details.method, handler_call_details.invocation_metadata
        )
        return handler if refusal is None else _refusing(refusal)
