"""A message that its model has begun with is answered or taken back, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any, cast

import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import DeadlineExceededError, EngineTimeoutError, InternalError
from naiad.services.infer_stream import InferCall, InferStream
from naiad.services.planned import PlannedRequests, Started
from naiad.services.streams import Ready
from naiad.services.wire.shared import NOTHING_SHARED

CALL = InferCall(None, {}, None, ends_stream_on_error=False, peer="ipv4:127.0.0.1:1")
MESSAGE = pb.ModelInferRequest(model_name="m", id="7").SerializeToString()


class Begun:
    """Takes each message as one whose model has begun with it."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def start(self, _data: bytes, _deadline_ns: int | None, _caller: object) -> Started:
        """The test's future; no plan is asked for the answer of a request that fails."""
        return Started(self.future, cast("Any", None), b"", NOTHING_SHARED)


def stream(begun: Begun) -> InferStream:
    return InferStream(cast("Any", None), cast("PlannedRequests", begun), CALL, max_message_bytes=1_000_000)


async def tell(running: InferStream) -> Any:
    """The stream's answer to the message."""
    work = running.answer(MESSAGE)
    return pb.ModelStreamInferResponse.FromString(work.response if isinstance(work, Ready) else await work)


@pytest.mark.parametrize("error", [InternalError("told"), RuntimeError("a bug")], ids=["told", "bug"])
async def test_whatever_failed_before_it_is_asked_for_is_told_in_the_stream(error: Exception) -> None:
    begun = Begun()
    begun.future.set_exception(error)
    reply = await tell(stream(begun))
    assert reply.error_message.startswith("told" if isinstance(error, InternalError) else "unexpected error")
    assert reply.infer_response.id == "7"
    assert reply.infer_response.parameters["triton_final_response"].bool_param


async def test_an_engine_that_is_late_costs_its_message_and_a_deadline_that_passed_the_stream() -> None:
    """Only the deadline is the caller's own, past which it reads nothing."""
    late = Begun()
    late.future.set_exception(EngineTimeoutError("no answer"))
    assert (await tell(stream(late))).error_message == "no answer"
    passed = Begun()
    passed.future.set_exception(DeadlineExceededError("Deadline Exceeded"))
    with pytest.raises(DeadlineExceededError):
        await tell(stream(passed))


@pytest.mark.parametrize("is_over", [False, True], ids=["waits", "failed"])
async def test_a_message_whose_task_is_cancelled_before_its_first_step_is_taken_back(
    *, is_over: bool
) -> None:
    """Its client left while it was read: nobody waits for the model, and nobody is told of its failure."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    begun = Begun()
    work = stream(begun).answer(MESSAGE)
    assert not isinstance(work, Ready)
    task = asyncio.ensure_future(work)
    task.cancel()
    if is_over:
        begun.future.set_exception(InternalError("nobody asks"))
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert begun.future.cancelled() is not is_over
    del begun, work, task
    gc.collect()
    assert reported == []
