"""What a failed call is told: a code by the table, and a text that every client can receive."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import (
    CallerFaultError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from naiad.services.status import UndecodableError, _model_of, abort, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAILERS_BYTES = 8 * 1_024
"""What a client takes: with longer trailers it drops the call, and the caller never learns why."""


@pytest.mark.parametrize("letter", ["x", "\n", "%", "é", "字", "\U0001f600", "\ud800"])
def test_a_long_text_fits_the_trailers_in_every_script(letter: str) -> None:
    """Three bytes are written for each byte that is not printable ASCII."""
    message = status_of(NotFoundError(f"model '{letter * 100_000}'")).message
    assert message.startswith("model '")
    assert message.endswith(" …")
    assert 1_900 < len(quote(message, safe="")) < TRAILERS_BYTES


def test_a_text_that_fits_is_left_as_it_is() -> None:
    text = "model 'é字\U0001f600' is not found"
    assert status_of(NotFoundError(text)).message == text


def test_each_error_has_the_code_of_its_class() -> None:
    assert status_of(InvalidArgumentError("x")).code is grpc.StatusCode.INVALID_ARGUMENT
    assert status_of(InternalError("x")).code is grpc.StatusCode.INTERNAL
    assert status_of(UndecodableError("x")).code is grpc.StatusCode.INTERNAL


def test_the_log_holds_a_caller_s_mistake_against_nobody_and_says_which_call_it_was() -> None:
    with capture_logs() as lines:
        assert status_of(CallerFaultError("no region"), model="m", peer="").code is grpc.StatusCode.INTERNAL
        status_of(InternalError("broken"), method="ModelInfer", model="m")
    assert lines == [
        {
            "event": "call refused",
            "log_level": "debug",
            "code": "INTERNAL",
            "reason": "no region",
            "model": "m",
        },
        {
            "event": "a model failed",
            "log_level": "error",
            "reason": "broken",
            "method": "ModelInfer",
            "model": "m",
            "who": "model owner",
        },
    ]


def test_an_unexpected_error_is_a_sentence_that_tells_nothing_of_it() -> None:
    status = status_of(ValueError("secret"))
    assert status.code is grpc.StatusCode.INTERNAL
    assert status.message.startswith("unexpected error in the server, logged as incident ")
    assert "secret" not in status.message


def test_an_error_that_knows_when_to_try_again_tells_grpcs_own_retries() -> None:
    status = status_of(ResourceExhaustedError("full", retry_after_ms=250))
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.trailers == (("grpc-retry-pushback-ms", "250"),)
    assert status_of(ResourceExhaustedError("too large")).trailers == ()
    assert status_of(ValueError("a bug")).trailers == ()


@pytest.mark.parametrize(
    ("kind", "field", "names_model"),
    [
        (pb.ModelInferRequest, "model_name", True),
        (pb.ModelReadyRequest, "name", True),
        (pb.ModelMetadataRequest, "name", True),
        (pb.ModelConfigRequest, "name", True),
        (pb.ModelStatisticsRequest, "name", True),
        (pb.RepositoryModelLoadRequest, "model_name", True),
        (pb.RepositoryModelUnloadRequest, "model_name", True),
        (pb.TraceSettingRequest, "model_name", True),
        (pb.SystemSharedMemoryStatusRequest, "name", False),
        (pb.SystemSharedMemoryRegisterRequest, "name", False),
        (pb.SystemSharedMemoryUnregisterRequest, "name", False),
        (pb.CudaSharedMemoryStatusRequest, "name", False),
        (pb.CudaSharedMemoryRegisterRequest, "name", False),
        (pb.CudaSharedMemoryUnregisterRequest, "name", False),
    ],
)
def test_the_log_calls_model_what_is_one_and_not_a_region(kind: type, field: str, names_model: bool) -> None:
    assert _model_of(kind(**{field: "n"})) == ("n" if names_model else "")


def test_every_message_that_names_something_is_in_the_list_above() -> None:
    """A new one would need a decision: its name is a model's or not."""
    named = {
        message.name
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        if message.name.endswith("Request") and {"name", "model_name"} & set(message.fields_by_name)
    }
    assert len(named) == 14


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("ipv6:%5B::1%5D:54494", "[::1]:54494"),
        ("ipv4:127.0.0.1:5", "127.0.0.1:5"),
        ("unix:/tmp/%5B", "unix:/tmp/%5B"),
        ("[::1]:54494", "[::1]:54494"),
    ],
)
def test_peers_are_logged_as_addresses_are_written(peer: str, shown: str) -> None:
    with capture_logs() as lines:
        status_of(NotFoundError("no"), peer=peer)
    assert lines[0]["peer"] == shown


def test_a_call_over_http_is_logged_with_its_own_status() -> None:
    with capture_logs() as lines:
        status_of(InvalidArgumentError("no"), status=405)
    assert lines == [{"event": "call refused", "log_level": "debug", "reason": "no", "status": 405}]


class Held:
    """Stands for a request of many megabytes."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_an_error_that_was_told_holds_nothing_of_its_request(no_collector: None) -> None:
    """An error in a future is in a cycle with the frames it went through: those must go without the collector."""
    held = []

    def fail() -> None:
        request = Held()
        held.append(weakref.ref(request))
        raise InvalidArgumentError("wrong") from ValueError(request)

    try:
        fail()
    except InvalidArgumentError as error:
        kept = error
    assert held[0]() is not None
    assert status_of(kept).message == "wrong"
    assert held[0]() is None


async def test_a_refused_call_holds_nothing_of_its_request_once_it_is_over(no_collector: None) -> None:
    """On a real server: gRPC itself keeps what ended a call in a cycle of references."""
    held = []

    async def refuse(request: bytes, context: Any) -> bytes:
        large = Held()
        held.append(weakref.ref(large))
        try:
            raise NotFoundError(f"no {request!r}")  # noqa: TRY301  # as any handler's own call would
        except NotFoundError as error:
            await abort(context, error)

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("held.Service", {"Get": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/held.Service/Get", None, None)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match="no b'x'"):
                await call(b"x")
    await server.stop(None)
    assert [each() for each in held] == [None] * 3
