"""Messages that are not what they should be: such a call ends with Triton's status and no word in the log.

gRPC itself ends it as UNKNOWN with the name of a Python exception, and logs a traceback for each.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from naiad.services.status import UndecodableError, abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from grpc.aio import ServicerContext

    Context = ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    ServiceHandler = grpc.ServiceRpcHandler[Any, Any]
    Behavior = Callable[..., Any]

Parsed = TypeVar("Parsed", bound=Message)

REFUSAL = "Unable to parse request"

_UNDECODABLE = object()

_TAKES_BYTES = "naiad_takes_bytes"


def takes_bytes(behavior: Behavior) -> Behavior:
    """Mark a service's method whose requests and responses are serialized messages: it parses them itself.

    It raises `UndecodableError` for what it cannot parse.
    """
    setattr(behavior, _TAKES_BYTES, True)
    return behavior


def parse(kind: type[Parsed], data: bytes) -> Parsed:
    """The message of that type; raises UndecodableError for what is none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UndecodableError(REFUSAL) from None


class DecodingServer:
    """A grpc.aio server on which services are registered: their handlers see no message that is none.

    Generated code registers each service twice: as handlers asked by name, and method by method. Only the
    first is used: gRPC waits for a call of each registered method with a task of its own, and looks at all of
    these tasks twice a call, which takes longer than asking by name.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Iterable[ServiceHandler]) -> None:
        """Register handlers that are asked by name."""
        self._server.add_generic_rpc_handlers(tuple(map(_DecodingHandler, handlers)))

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Nothing: the same handlers have been registered by name."""


class _DecodingHandler(grpc.ServiceRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """A service's handlers, each `decoded` when it is first asked for."""

    def __init__(self, inner: ServiceHandler) -> None:
        self._inner = inner
        self._decoded: dict[str, Any] = {}

    def service_name(self) -> str:
        """The service's full name."""
        return str(self._inner.service_name())

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The method's handler; None for a method of another service."""
        method = handler_call_details.method
        known = self._decoded.get(method)
        if known is None:
            handler = self._inner.service(handler_call_details)
            if handler is None:
                return None
            known = self._decoded[method] = decoded(handler)
        return known


def decoded(handler: Any) -> Any:
    """The same method handler, ending the call as INTERNAL at a message that cannot be parsed."""
    kinds = {
        (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
        (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
        (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
        (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
    }
    name, make = kinds[handler.request_streaming, handler.response_streaming]
    behavior: Behavior = getattr(handler, name)
    if hasattr(behavior, _TAKES_BYTES):
        return make(behavior, None, None)
    wrapped = _generator(behavior) if inspect.isasyncgenfunction(behavior) else _coroutine(behavior)
    checked = _raising if handler.request_streaming else _marking
    return make(wrapped, checked(handler.request_deserializer), handler.response_serializer)


def _marking(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """For one message: what a deserializer raises, no handler of ours would ever see."""

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return _UNDECODABLE

    return parsed


def _raising(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """For a stream, where it is raised to whoever reads the next message."""

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            raise UndecodableError(REFUSAL) from None

    return parsed


def _coroutine(behavior: Behavior) -> Behavior:
    async def answered(request: Any, context: Context) -> Any:
        if request is _UNDECODABLE:
            await abort(context, UndecodableError(REFUSAL))
        return await behavior(request, context)

    return answered


def _generator(behavior: Behavior) -> Behavior:
    async def answered(request: Any, context: Context) -> AsyncIterator[Any]:
        if request is _UNDECODABLE:
            await abort(context, UndecodableError(REFUSAL))
        try:
            async for response in behavior(request, context):
                yield response
        except UndecodableError as error:
            await abort(context, error)

    return answered
