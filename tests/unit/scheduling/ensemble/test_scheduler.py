"""The ensemble scheduler over models that the test steers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.clock import FakeClock
from support.ensembles import FakeModel, ensemble_config, plain_config, settle, step, tensors

from naiad.core.errors import (
    CallerFaultError,
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from naiad.core.tensors import InferRequest, ModelKey
from naiad.scheduling.ensemble.scheduler import EnsembleScheduler
from naiad.telemetry.statistics import FailureReason, RefusalReason, VersionStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array

DIAMOND = ensemble_config(
    "E",
    ("given",),
    ("end", "left"),
    step("first", {"IN": "given"}, {"OUT": "middle"}),
    step("one", {"IN": "middle"}, {"OUT": "left"}),
    step("two", {"IN": "middle"}, {"OUT": "right"}),
    step("last", {"A": "left", "B": "right"}, {"OUT": "end"}),
)
CHAIN = ensemble_config(
    "E",
    ("given",),
    ("end",),
    step("first", {"IN": "given"}, {"OUT": "middle"}),
    step("last", {"IN": "middle"}, {"OUT": "end"}),
)


class Bench:
    """A scheduler, its statistics, and a fake model for each step."""

    def __init__(
        self, config: ModelConfig, clock: FakeClock, *models: FakeModel, max_queue_size: int
    ) -> None:
        assert config.ensemble is not None
        self.statistics = VersionStatistics()
        self.clock = clock
        self.models = {
            each.model_name: FakeModel(plain_config(each.model_name, tuple(each.inputs)))
            for each in config.ensemble.steps
        } | {model.config.name: model for model in models}
        self.scheduler = EnsembleScheduler(
            ModelKey("E", 1),
            config=config,
            statistics=self.statistics,
            max_queue_size=max_queue_size,
            clock=clock,
        )
        self.scheduler.bind([self.models[each.model_name] for each in config.ensemble.steps])

    def __getitem__(self, name: str) -> FakeModel:
        return self.models[name]

    @property
    def handles(self) -> int:
        return sum(model.handles for model in self.models.values())


@asynccontextmanager
async def bench(
    config: ModelConfig = DIAMOND, *models: FakeModel, max_queue_size: int = 100
) -> AsyncIterator[Bench]:
    made = Bench(config, FakeClock(), *models, max_queue_size=max_queue_size)
    try:
        yield made
    finally:
        await made.scheduler.close()


def request(value: float = 1, **fields: object) -> InferRequest:
    return InferRequest("E", None, {"given": full(value)}, **fields)  # type: ignore[arg-type]  # a shorthand


def full(value: float, rows: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((rows, 2), value, np.float32)


async def test_branches_run_at_once_and_what_joins_them_waits_for_both() -> None:
    async with bench() as b:
        future = b.scheduler.submit(request(outputs=("end",)))
        b["first"].answer(OUT=full(2))
        await settle()
        assert [len(b[name].requests) for name in ("one", "two", "last")] == [1, 1, 0]
        b["two"].answer(OUT=full(4))
        await settle()
        assert not b["last"].requests
        b["one"].answer(OUT=full(3))
        await settle()
        assert {name: array[0, 0] for name, array in b["last"].requests[0].inputs.items()} == {"A": 3, "B": 4}
        b["last"].answer(OUT=full(5))
        response = await future
        assert list(response.outputs) == ["end"]
        assert response.model == ModelKey("E", 1)
        assert b.handles == 0


async def test_no_tensor_is_copied_between_steps_or_out() -> None:
    """What a model gives is what the next one reads and what the caller gets."""
    async with bench() as b:
        asked = request()
        future = b.scheduler.submit(asked)
        assert b["first"].requests[0].inputs["IN"] is asked.inputs["given"]
        batch = np.zeros((8, 2), np.float32)
        b["first"].answer(OUT=batch[3:4])
        await settle()
        one, two = b["one"].requests[0].inputs["IN"], b["two"].requests[0].inputs["IN"]
        assert np.shares_memory(one, batch)
        assert np.shares_memory(one, two)
        left, right, end = full(1), full(2), full(3)
        b["one"].answer(OUT=left)
        b["two"].answer(OUT=right)
        await settle()
        inputs = b["last"].requests[0].inputs
        assert (inputs["A"] is left, inputs["B"] is right) == (True, True)
        b["last"].answer(OUT=end)
        outputs = (await future).outputs
        assert (outputs["end"] is end, outputs["left"] is left) == (True, True)


async def test_only_what_is_asked_for_runs() -> None:
    async with bench() as b:
        future = b.scheduler.submit(request(outputs=("left",)))
        b["first"].answer(OUT=full(2))
        await settle()
        b["one"].answer(OUT=full(3))
        assert list((await future).outputs) == ["left"]
        assert not b["two"].requests
        assert not b["last"].requests


async def test_the_callers_wishes_go_to_every_step() -> None:
    async with bench(CHAIN) as b:
        asked = request(
            request_id="mine",
            priority=2,
            timeout_us=7,
            deadline_ns=b.clock.now + 10**12,
            sequence_id="s",
            sequence_start=True,
            sequence_end=True,
            parameters={"a": 1},
        )
        b.scheduler.submit(asked)
        b["first"].answer(OUT=full(2))
        await settle()
        for name in ("first", "last"):
            (got,) = b[name].requests
            assert replace(got, inputs=asked.inputs, outputs=None, model_name="E") == asked
            assert (got.model_name, got.outputs) == (name, ("OUT",))


async def test_the_first_error_ends_the_request_and_the_other_branch() -> None:
    async with bench() as b:
        future = b.scheduler.submit(request())
        b["first"].answer(OUT=full(2))
        await settle()
        shared = CallerFaultError("no such row")
        b["two"].fail(shared)
        with pytest.raises(CallerFaultError) as caught:
            await future
        assert caught.value.message == "in ensemble 'E', no such row"
        assert shared.message == "no such row"  # batch-mates of the step read it too
        assert b["one"].futures[0].cancelled()
        assert b.handles == 0
        assert b.statistics.failures[FailureReason.OTHER] == 1
        assert b.statistics.fail.count == 1


async def test_a_refusal_at_a_steps_door_says_when_to_come_again() -> None:
    async with bench(CHAIN) as b:
        b["last"].refusal = ResourceExhaustedError("full", retry_after_ms=7)
        future = b.scheduler.submit(request())
        b["first"].answer(OUT=full(2))
        with pytest.raises(ResourceExhaustedError, match="^in ensemble 'E', full$") as caught:
            await future
        assert caught.value.retry_after_ms == 7
        b["first"].refusal = UnavailableError("full too")
        with pytest.raises(UnavailableError, match="^in ensemble 'E', full too$"):
            await b.scheduler.submit(request())
        assert b.handles == 0


async def test_a_shape_that_the_next_model_does_not_take_is_the_callers_error() -> None:
    async with bench(CHAIN) as b:
        future = b.scheduler.submit(request(request_id="mine"))
        b["first"].answer(OUT=np.zeros((1, 3), np.float32))
        with pytest.raises(
            InvalidArgumentError,
            match=r"^in ensemble 'E', \[request id: mine\] unexpected shape for input 'IN'",
        ):
            await future


async def test_a_defect_ends_the_request_too() -> None:
    async with bench(CHAIN) as b:
        b["first"].refusal = RuntimeError("a bug")
        with pytest.raises(RuntimeError, match="^a bug$"):
            await b.scheduler.submit(request())


async def test_a_caller_that_leaves_cancels_the_steps_at_work() -> None:
    async with bench() as b:
        future = b.scheduler.submit(request())
        b["first"].answer(OUT=full(2))
        await settle()
        future.cancel()
        await settle()
        assert [b[name].futures[0].cancelled() for name in ("one", "two")] == [True, True]
        assert b.handles == 0
        assert b.statistics.failures[FailureReason.CANCELED] == 1
        await asyncio.wait_for(b.scheduler.drain(), 20)


async def test_a_deadline_holds_over_all_steps() -> None:
    async with bench(CHAIN) as b:
        future = b.scheduler.submit(request(deadline_ns=b.clock.now + 1_000))
        later = b.scheduler.submit(request(deadline_ns=b.clock.now + 10**15))
        b["first"].answer(0, OUT=full(2))
        await settle()
        b.clock.advance_us(2)
        with pytest.raises(DeadlineExceededError, match="^Deadline Exceeded$"):
            await asyncio.wait_for(future, 20)
        assert b["last"].futures[0].cancelled()
        assert not later.done()
        assert b.statistics.failures[FailureReason.REJECTED] == 1


async def test_what_was_answered_is_not_kept_until_its_deadline() -> None:
    async with bench(CHAIN) as b:
        given = full(1)
        kept = weakref.ref(given)
        future = b.scheduler.submit(replace(request(), inputs={"given": given}, deadline_ns=10**12))
        b["first"].answer(OUT=full(2))
        await settle()
        b["last"].answer(OUT=full(3))
        await future
        b["first"].requests.clear()
        del given
        gc.collect()
        assert kept() is None


async def test_an_answered_request_is_one_execution_with_its_steps_times() -> None:
    async with bench() as b:
        given = np.zeros((3, 2), np.float32)
        future = b.scheduler.submit(InferRequest("E", None, {"given": given}, batch_size=3))
        b.clock.advance_us(5)
        for name in ("first", "one", "two", "last"):
            b[name].answer(OUT=full(2, rows=3))
            await settle()
        response = await future
        assert (response.batch_size, response.batch_reason) == (3, "ensemble")
        assert response.times.queue_ns == 0
        counted = b.statistics
        assert (counted.inference_count, counted.execution_count) == (3, 1)
        assert (counted.success.count, counted.success.ns, counted.queue.ns) == (1, 5_000, 0)
        phases = (counted.compute_input, counted.compute_infer, counted.compute_output)
        assert [(each.count, each.ns) for each in phases] == [
            (1, 4),
            (1, 8),
            (1, 12),
        ]  # four steps of 1, 2, 3
        assert {size: row.compute_infer.ns for size, row in counted.batches.items()} == {3: 8}


async def test_as_many_requests_as_allowed_are_in_a_step_and_the_rest_waits() -> None:
    limited = replace(CHAIN, ensemble=replace(CHAIN.ensemble, max_inflight_requests=1))  # type: ignore[type-var]
    async with bench(limited) as b:
        futures = [b.scheduler.submit(request(value)) for value in range(4)]
        assert (len(b["first"].requests), b.scheduler.queued) == (1, 3)
        b["first"].answer(OUT=full(0))
        await settle()
        # The first step is left as soon as it has answered, not when the whole request is.
        assert (len(b["first"].requests), len(b["last"].requests), b.scheduler.queued) == (2, 1, 2)
        futures[2].cancel()
        await settle()
        assert b.scheduler.queued == 1
        b["first"].answer(OUT=full(1))
        await settle()
        assert [each.inputs["IN"][0, 0] for each in b["first"].requests] == [0, 1, 3]
        b["first"].fail(InvalidArgumentError("bad"))  # a failed step makes room too
        with pytest.raises(InvalidArgumentError):
            await futures[3]
        for future in (futures[0], futures[1]):
            b["last"].answer(OUT=full(9))
            await future
        again = b.scheduler.submit(request())
        assert len(b["first"].requests) == 4
        again.cancel()


async def test_a_thousand_requests_through_a_step_of_one_all_end() -> None:
    limited = replace(DIAMOND, ensemble=replace(DIAMOND.ensemble, max_inflight_requests=1))  # type: ignore[type-var]

    def double(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"OUT": sum(inputs.values())}  # type: ignore[dict-item]  # numpy's sum of arrays

    reads = {"first": ("IN",), "one": ("IN",), "two": ("IN",), "last": ("A", "B")}
    models = [FakeModel(plain_config(name, each), double) for name, each in reads.items()]
    async with bench(limited, *models, max_queue_size=10_000) as b:
        futures = [b.scheduler.submit(request(value)) for value in range(1_000)]
        responses = await asyncio.wait_for(asyncio.gather(*futures), 20)
        assert [each.outputs["end"][0, 0] for each in responses] == [2 * value for value in range(1_000)]
        assert (b.scheduler.queued, b.handles) == (0, 0)


async def test_what_waits_for_a_step_is_bounded() -> None:
    limited = replace(CHAIN, ensemble=replace(CHAIN.ensemble, max_inflight_requests=1))  # type: ignore[type-var]
    async with bench(limited, max_queue_size=1) as b:
        for _ in range(2):
            b.scheduler.submit(request()).add_done_callback(lambda future: future.exception())
        with pytest.raises(UnavailableError, match=r"Exceeds maximum queue size: 1 requests wait for 'E/1'"):
            b.scheduler.submit(request())
        assert b.statistics.refusals[RefusalReason.QUEUE_FULL] == 1


async def test_requests_at_work_keep_their_models_when_others_are_bound() -> None:
    async with bench(CHAIN) as b:
        old = b.scheduler.submit(request())
        newer = [FakeModel(plain_config(name)) for name in ("first", "last")]
        b.scheduler.bind(newer)
        b.scheduler.submit(request()).cancel()
        b["first"].answer(OUT=full(2))
        await settle()
        b["last"].answer(OUT=full(3))
        assert (await old).outputs["end"][0, 0] == 3
        assert len(newer[0].requests) == 1


async def test_an_optional_input_may_be_left_out_on_the_way() -> None:
    optional = (replace(tensors("given")[0], optional=True), *tensors("other"))
    config = ensemble_config(
        "E", (), ("end",), step("m", {"A": "given", "B": "other"}, {"OUT": "end"}), inputs=optional
    )
    for spec_is_optional, expected in ((True, ["B"]), (False, None)):
        specs = (replace(tensors("A")[0], optional=spec_is_optional), *tensors("B"))
        async with bench(config, FakeModel(plain_config("m", inputs=specs))) as b:
            future = b.scheduler.submit(InferRequest("E", None, {"other": full(1)}))
            if expected:
                assert list(b["m"].requests[0].inputs) == expected
                future.cancel()
            else:
                with pytest.raises(InvalidArgumentError, match=r"missing required input\(s\) \['A'\]"):
                    await future


async def test_models_with_and_without_batches_take_turns() -> None:
    """A batch of one goes to a model without batches as an item, and comes back as a batch of one."""
    lone = FakeModel(plain_config("first", max_batch_size=0))
    async with bench(CHAIN, lone) as b:
        future = b.scheduler.submit(request())
        assert lone.requests[0].inputs["IN"].shape == (2,)
        lone.answer(OUT=np.zeros(2, np.float32))
        await settle()
        assert b["last"].requests[0].inputs["IN"].shape == (1, 2)
        b["last"].answer(OUT=full(3))
        assert (await future).outputs["end"].shape == (1, 2)


async def test_the_ensembles_own_reshape_counts_between_caller_and_steps() -> None:
    reshaped = replace(
        CHAIN,
        inputs=(replace(CHAIN.inputs[0], dims=(1, 2), reshape=(2,)),),
        outputs=(replace(CHAIN.outputs[0], dims=(2, 1), reshape=(2,)),),
    )
    async with bench(reshaped) as b:
        future = b.scheduler.submit(InferRequest("E", None, {"given": np.zeros((3, 1, 2), np.float32)}))
        assert b["first"].requests[0].inputs["IN"].shape == (3, 2)
        b["first"].answer(OUT=full(2, rows=3))
        await settle()
        b["last"].answer(OUT=full(2, rows=3))
        assert (await future).outputs["end"].shape == (3, 2, 1)


async def test_draining_waits_for_the_answer_and_closing_does_not() -> None:
    async with bench(CHAIN) as b:
        future = b.scheduler.submit(request())
        draining = asyncio.create_task(b.scheduler.drain())
        await settle()
        with pytest.raises(UnavailableError, match="^Server is stopping, scheduler for model has stopped"):
            b.scheduler.submit(request())
        b["first"].answer(OUT=full(1))
        await settle()
        assert not draining.done()
        b["last"].answer(OUT=full(1))
        await future
        await asyncio.wait_for(draining, 20)
    async with bench(CHAIN) as b:
        future = b.scheduler.submit(request())
        await b.scheduler.close()
        with pytest.raises(UnavailableError, match="stopped before this request could run"):
            await future
        assert b["first"].futures[0].cancelled()
        assert b.handles == 0
