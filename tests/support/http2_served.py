"""A whole server in a thread of its own, for clients that block: what it logs and what it holds can be looked at."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import structlog
from onnx import TensorProto
from support.onnx_models import add_sub, identity
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import server
from tritonclient.grpc import service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.http2_peer import Peer

    from naiad.app import NaiadServer

Value = TypeVar("Value")

SERVICE = "/inference.GRPCInferenceService/"
LIVE, INFER, STREAM = SERVICE + "ServerLive", SERVICE + "ModelInfer", SERVICE + "ModelStreamInfer"
WATCH = "/grpc.health.v1.Health/Watch"
IS_LIVE = pb.ServerLiveResponse(live=True).SerializeToString()
MAX_MESSAGE = 16 * 2**20
ECHO_CONFIG = """
max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
START_S = 30.0


class _Errors(logging.Handler):
    """Keeps whatever the standard library's loggers are told of as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # gRPC's Python layer logs a traceback for each answer whose client has left.
        if record.name.startswith("grpc."):
            return
        self.found.append(record.getMessage() + (f" {record.exc_info[1]!r}" if record.exc_info else ""))


class Served:
    """A running server; its methods may be called from any thread but its own."""

    def __init__(self, repository: Path, **settings: Any) -> None:
        self._settings = settings
        self._repository = repository
        self._ready: concurrent.futures.Future[NaiadServer] = concurrent.futures.Future()
        self._stop = asyncio.Event()
        self._errors = _Errors()
        self._events: list[Any] = []
        self._loop_errors: list[str] = []
        self.thread = threading.Thread(target=self._run, name="served", daemon=True)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(
            lambda _, context: self._loop_errors.append(
                f"{context.get('message')}: {context.get('exception')!r}"
            )
        )
        try:
            async with server(self._repository, **self._settings) as running:
                self._ready.set_result(running)
                await self._stop.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    @contextmanager
    def running(self) -> Iterator[Served]:
        """Start, and stop at the end; at both ends nothing may have gone wrong in the log."""
        logging.getLogger().addHandler(self._errors)
        try:
            with structlog.testing.capture_logs() as self._events:
                self.thread.start()
                self.server = self._ready.result(START_S)
                self.address = ("127.0.0.1", self.server.grpc_port)
                try:
                    yield self
                finally:
                    self.begin_stop()
                    self.thread.join(START_S)
        finally:
            logging.getLogger().removeHandler(self._errors)
        assert not self.thread.is_alive()

    def begin_stop(self) -> None:
        """Let the server stop in order; returns at once."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stop.set)

    def errors(self) -> list[str]:
        """What was logged as an error since this was last asked, by whomever."""
        found = [str(event) for event in self._events if event["log_level"] in ("error", "critical")]
        found += self._errors.found + self._loop_errors
        for seen in (self._events, self._errors.found, self._loop_errors):
            seen.clear()
        # grpc.aio raises it in a servicer whose client has left, which then counts as unexpected.
        return [text for text in found if "ExecuteBatchError" not in text]

    def on_loop(self, ask: Callable[[], Value]) -> Value:
        """What a function returns on the loop's thread."""
        answer: concurrent.futures.Future[Value] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(lambda: answer.set_result(ask()))
        return answer.result(START_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, asked on the loop's thread; TimeoutError after thirty seconds."""

        async def waiting() -> None:
            async with asyncio.timeout(30):
                while not condition():  # noqa: ASYNC110  # the state has no event, and needs none but here
                    await asyncio.sleep(0.002)

        asyncio.run_coroutine_threadsafe(waiting(), self.loop).result()

    def calls(self) -> int:
        """Calls at work."""
        grpc = self.server._grpc
        assert grpc is not None
        return grpc._calls.accepted

    def queued(self, model: str) -> int:
        """Requests in a model's queue."""
        [serving] = self.server.manager.ready_versions(model)
        return serving.scheduler.queued

    def runs(self, model: str) -> int:
        """How often a model has run."""
        [serving] = self.server.manager.ready_versions(model)
        return int(serving.statistics.execution_count)

    def busy(self, model: str) -> int:
        """Instances of a model that are at work."""
        [serving] = self.server.manager.ready_versions(model)
        return serving.scheduler.busy

    def tasks(self) -> int:
        """How many tasks the loop has."""
        return self.on_loop(lambda: len(asyncio.all_tasks()))

    def calms_down(self, tasks: int) -> None:
        """Wait until no call is at work and the loop has no more than so many tasks."""
        # One more is the task that asks.
        self.until(lambda: not self.calls() and len(asyncio.all_tasks()) <= tasks + 1)


def repository(folder: Path) -> Path:
    """`simple` adds and subtracts; `echo` gives back bytes of any number."""
    add_model(folder, "simple", add_sub(), ADD_SUB_CONFIG)
    add_model(folder, "echo", identity(TensorProto.UINT8, ["N"]), ECHO_CONFIG)
    return folder


def served(folder: Path, transport: str, **settings: Any) -> Served:
    """A server over `repository`, by one of the transports, that takes pings as they come."""
    defaults: dict[str, Any] = {
        "grpc_max_message_bytes": MAX_MESSAGE,
        "grpc_http2_max_ping_strikes": 0,
        # On the loop's thread nothing could be held while others are looked at.
        "max_inline_run_us": 0,
        "allow_http": False,
        "allow_metrics": False,
    }
    defaults["grpc_transport"] = transport
    return Served(folder, **(defaults | settings))


def own(transport: str, core: str) -> None:
    """What follows is the protocol's word that our transport keeps and core does not: `core` says what it does."""
    if transport == "grpcio":
        pytest.skip(f"core {core}")


def lives(peer: Peer) -> None:
    """The connection still answers calls."""
    assert peer.call(LIVE, b"").messages() == [IS_LIVE]


def ends(peer: Peer, transport: str, *codes: int) -> None:
    """The server ends the connection; ours tells one of these codes, core mostly closes without a word."""
    told = peer.end()
    assert told in codes or transport == "grpcio", f"{told} instead of {codes}"


def echo_request(data: bytes, request_id: str = "") -> bytes:
    """An inference of `echo`."""
    request = pb.ModelInferRequest(model_name="echo", id=request_id)
    request.inputs.add(name="INPUT0", datatype="UINT8", shape=[len(data)])
    request.raw_input_contents.append(data)
    return bytes(request.SerializeToString())


def echoed(answer: bytes) -> bytes:
    """What an inference of `echo` gave back."""
    return bytes(pb.ModelInferResponse.FromString(answer).raw_output_contents[0])


def echoed_on_stream(answer: bytes) -> bytes:
    """The same of a stream's message; asserts that it tells of no error."""
    found = pb.ModelStreamInferResponse.FromString(answer)
    assert not found.error_message, found.error_message
    return bytes(found.infer_response.raw_output_contents[0])
