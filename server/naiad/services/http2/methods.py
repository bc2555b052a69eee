"""The methods that a server has: their paths, what kind of call each is, and who answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import grpc

    from naiad.services.http2.call import Call

    Starter = Callable[[bytes | memoryview, "Call"], bool]


class Method(NamedTuple):
    """One method. `starts` may take a unary call over without a task; it returns whether it has."""

    path: str
    request_streaming: bool
    response_streaming: bool
    behavior: Callable[[Any, Any], Any]
    parse: Callable[[bytes], Any] | None
    write: Callable[[Any], bytes] | None
    starts: Starter | None

    @classmethod
    def of(cls, path: str, handler: Any) -> Method:
        """The method of one of gRPC's handlers."""
        streams = ("unary", "stream")
        kind = f"{streams[handler.request_streaming]}_{streams[handler.response_streaming]}"
        behavior = getattr(handler, kind)
        return cls(
            path=path,
            request_streaming=handler.request_streaming,
            response_streaming=handler.response_streaming,
            behavior=behavior,
            parse=handler.request_deserializer,
            write=handler.response_serializer,
            starts=getattr(behavior, STARTER, None) and _bound_starter(behavior),
        )


STARTER = "naiad_starter"


def starts_with(name: str) -> Callable[[Any], Any]:
    """Mark a service's unary method that takes bytes: its method `name` may begin a call without a task.

    It is called with the serialized request and the `Call`, on the event loop's thread, and returns False if
    it has done nothing; otherwise it, or what it has begun, ends the call by `answer` or `end`.
    """

    def mark(behavior: Any) -> Any:
        setattr(behavior, STARTER, name)
        return behavior

    return mark


def _bound_starter(behavior: Any) -> Starter | None:
    owner = getattr(behavior, "__self__", None)
    starter: Starter | None = getattr(owner, getattr(behavior, STARTER), None)
    return starter


class _Details(NamedTuple):
    """What gRPC's handlers are asked with."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class Methods:
    """Finds a method by its path, among handlers as gRPC's generated code registers them."""

    def __init__(self) -> None:
        self._handlers: list[grpc.GenericRpcHandler[Any, Any]] = []
        self._known: dict[str, Method] = {}

    def add(self, handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> None:
        """Ask these too."""
        self._handlers.extend(handlers)

    def find(self, path: str) -> Method | None:
        """The method of a path, which is looked for once; None if there is none."""
        method = self._known.get(path)
        if method is None:
            details: Any = _Details(path)
            for candidate in self._handlers:
                handler = candidate.service(details)
                if handler is not None:
                    method = self._known[path] = Method.of(path, handler)
                    break
        return method
