"""The one table from domain errors to gRPC status codes, and the one way an error leaves a unary RPC."""

from __future__ import annotations

import functools
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeVar
from urllib.parse import unquote

import grpc
import structlog

from naiad.core import errors
from naiad.services.calls import SHUTTING_DOWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grpc.aio import ServicerContext

    from naiad.services.calls import Calls

    Context = ServicerContext[Any, Any]

Request = TypeVar("Request")
Response = TypeVar("Response")


MAX_MESSAGE = 2_000
"""Bytes of an error's text that reach the caller: trailers hold 8 KiB, and threefold what is not ASCII."""

_NAMES_MODEL = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")

RETRY_PUSHBACK = "grpc-retry-pushback-ms"
"""The trailer that tells gRPC clients when to try again."""


class UndecodableError(errors.InvalidArgumentError):
    """A message that is not of its type; Triton's clients know it as INTERNAL, and no model failed."""


class Counted(Protocol):
    """A service whose calls are counted."""

    calls: Calls


Service = TypeVar("Service", bound=Counted)

log = structlog.get_logger(__name__)

_CODES: dict[type[errors.NaiadError], grpc.StatusCode] = {
    errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CancelledError: grpc.StatusCode.CANCELLED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    UndecodableError: grpc.StatusCode.INTERNAL,
}


class Status(NamedTuple):
    """What a failed call is told; `retry_after_ms` is when another try may succeed, if that is known."""

    code: grpc.StatusCode
    message: str
    retry_after_ms: int | None = None

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """The trailing metadata: what gRPC's own retry policies wait for before they try again."""
        return () if self.retry_after_ms is None else ((RETRY_PUSHBACK, str(self.retry_after_ms)),)


def status_of(error: Exception, **call: str | int) -> Status:
    """The status for an error; one that is not ours becomes a fixed sentence whose id is in the log.

    Args:
        error: what was raised.
        call: what the log says about the call beside it, such as its method, model and peer; `status`, HTTP's
            own, takes the place of the code.
    """
    known = {key: _peer_text(value) if key == "peer" else value for key, value in call.items() if value}
    try:
        return _table_status(error, known)
    finally:
        _let_go(error)


def _table_status(error: Exception, call: dict[str, str | int]) -> Status:
    for kind in type(error).__mro__:
        if kind in _CODES:
            _log_expected(error, _CODES[kind], call)
            return Status(_CODES[kind], _bounded(str(error)), _retry_after_ms(error))
    incident = secrets.token_hex(4)
    log.error("unexpected error", incident=incident, **call, who="naiad developers", exc_info=error)
    return Status(grpc.StatusCode.INTERNAL, f"unexpected error in the server, logged as incident {incident}")


def _retry_after_ms(error: Exception) -> int | None:
    return error.retry_after_ms if isinstance(error, errors.NaiadError) else None


def _log_expected(error: Exception, code: grpc.StatusCode, call: dict[str, str | int]) -> None:
    reason = _bounded(str(error))
    if isinstance(error, errors.InternalError) and not isinstance(error, errors.CallerFaultError):
        log.error("a model failed", reason=reason, **call, who="model owner")
    else:
        told = call if "status" in call else {"code": code.name, **call}
        log.debug("call refused", reason=reason, **told)


def _peer_text(peer: str | int) -> str:
    """`ipv6:%5B::1%5D:54494`, as gRPC tells it, is `[::1]:54494`."""
    kind, _, address = str(peer).partition(":")
    return unquote(address) if kind in ("ipv4", "ipv6") else str(peer)


def _bounded(message: str) -> str:
    """What fits a status: an error may quote what the caller sent, and gRPC limits its trailers."""
    # Half a surrogate pair, which only JSON can spell, has no UTF-8.
    text = message[: MAX_MESSAGE + 1].encode("utf-8", "backslashreplace")
    return text[:MAX_MESSAGE].decode("utf-8", "ignore") + (" …" if len(text) > MAX_MESSAGE else "")


def code_number(status: Status) -> int:
    """The status code's number on the wire."""
    number: int = status.code.value[0]
    return number


async def abort(context: Context, error: Exception, **call: str) -> NoReturn:
    """End a call with the error's status; `call` as in `status_of`."""
    status = status_of(error, **call, peer=context.peer())
    try:
        await context.abort(status.code, status.message, status.trailers)
    except Exception as ended:
        context.add_done_callback(_forgetting(ended))  # type: ignore[arg-type]  # any callable will do
        raise


def _forgetting(ended: Exception) -> Callable[[Context], None]:
    """What lets go of a refused call's frames once it is over, which gRPC keeps in a cycle of references."""

    def forget(_: Context) -> None:
        _let_go(ended)

    return forget


def _let_go(error: BaseException) -> None:
    """Drop where an error came from, once it is told.

    An error that came out of a task or a future is in a cycle of references with the frames it went through.
    These hold the request, such as a picture of many megabytes, until the garbage collector comes to its
    oldest objects, which is seldom.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


def _model_of(request: object) -> str:
    """The model that a request names; empty for a stream, and where none is named."""
    # Only a model's own messages call it `name`: in those of shared memory that is a region.
    field = "name" if type(request).__name__.startswith(_NAMES_MODEL) else "model_name"
    name = getattr(request, field, "")
    return name if isinstance(name, str) else ""


if TYPE_CHECKING:
    Handler = Callable[[Service, Request, Context], Awaitable[Response]]


def rpc(handler: Handler[Service, Request, Response]) -> Handler[Service, Request, Response]:
    """Count an RPC as at work, and end it with the table's status for whatever it raises."""
    return _answered(handler, is_work=False)


def work_rpc(handler: Handler[Service, Request, Response]) -> Handler[Service, Request, Response]:
    """The same for an RPC that asks for a model: it is refused if it comes while the server drains."""
    return _answered(handler, is_work=True)


def _answered(
    handler: Handler[Service, Request, Response], *, is_work: bool
) -> Handler[Service, Request, Response]:
    @functools.wraps(handler)
    async def answered(service: Service, request: Request, context: Context) -> Response:
        accepted = service.calls.begin()
        try:
            if is_work and not accepted:
                raise errors.UnavailableError(SHUTTING_DOWN)  # noqa: TRY301  # one way out for all errors
            return await handler(service, request, context)
        except Exception as error:  # noqa: BLE001  # the status table decides
            await abort(context, error, method=handler.__name__, model=_model_of(request))
        finally:
            service.calls.end(accepted)

    return answered
