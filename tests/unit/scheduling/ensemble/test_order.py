"""Requests of one sequence reach every step of an ensemble in the order in which they were submitted."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import FakeClock
from support.ensembles import FakeModel, ensemble_config, plain_config, settle, step
from support.stepped import run_stepped

from naiad.core.errors import DeadlineExceededError, InvalidArgumentError, NaiadError, UnavailableError
from naiad.core.tensors import InferRequest, ModelKey
from naiad.scheduling.ensemble.order import SequenceOrder
from naiad.scheduling.ensemble.scheduler import EnsembleScheduler
from naiad.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from naiad.config.ensemble_config import EnsembleStep
    from naiad.core.tensors import InferResponse

ROWS = np.zeros((1, 2), np.float32)
FIRST = step("first", {"IN": "given"}, {"OUT": "middle"})
LAST = step("last", {"IN": "middle"}, {"OUT": "end"})


class Bench:
    """An ensemble over fake models, one a step, named as the steps' models."""

    def __init__(
        self,
        steps: Sequence[EnsembleStep],
        writes: Sequence[str],
        clock: FakeClock,
        *,
        max_inflight_requests: int = 0,
        max_queue_size: int = 10_000,
    ) -> None:
        config = ensemble_config("E", ("given",), writes, *steps, max_inflight_requests=max_inflight_requests)
        self.clock = clock
        self.models = {
            each.model_name: FakeModel(plain_config(each.model_name, tuple(each.inputs))) for each in steps
        }
        self.scheduler = EnsembleScheduler(
            ModelKey("E", 1),
            config=config,
            statistics=VersionStatistics(),
            max_queue_size=max_queue_size,
            clock=clock,
        )
        self.scheduler.bind([self.models[each.model_name] for each in steps])

    def submit(
        self, name: str, sequence: int | str = "s", outputs: tuple[str, ...] | None = None, **fields: int
    ) -> asyncio.Future[InferResponse]:
        """Submit a request with this id."""
        request = InferRequest("E", None, {"given": ROWS}, outputs, request_id=name, sequence_id=sequence)
        for field, value in fields.items():
            setattr(request, field, value)
        future = self.scheduler.submit(request)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # not every test asks
        return future

    def came(self, model: str) -> list[str]:
        """The ids of the requests that a model got, in order."""
        return [each.request_id for each in self.models[model].requests]

    async def answer(self, model: str, name: str) -> None:
        """Let a model answer a request, and what follows happen."""
        self.models[model].answer(self.came(model).index(name), OUT=ROWS)
        await settle()

    def assert_nothing_is_kept(self) -> None:
        assert (self.scheduler.at_work, self.scheduler.queued, len(self.scheduler._order)) == (0, 0, 0)
        assert sum(model.handles for model in self.models.values()) == 0


@asynccontextmanager
async def bench(
    *steps: EnsembleStep, writes: Sequence[str] = ("end",), **limits: int
) -> AsyncIterator[Bench]:
    made = Bench(steps or (FIRST, LAST), writes, FakeClock(), **limits)
    yield made
    await made.scheduler.close()
    await settle()
    made.assert_nothing_is_kept()


async def test_a_request_overtakes_no_other_of_its_sequence() -> None:
    async with bench() as b:
        futures = [b.submit("1"), b.submit("2"), b.submit("3")]
        others = [b.submit("other", "t"), b.submit("alone", 0), b.submit("nameless", "")]
        assert b.came("first") == ["1", "2", "3", "other", "alone", "nameless"]
        for name in ("3", "nameless", "other", "2", "alone"):
            await b.answer("first", name)
        assert b.came("last") == ["nameless", "other", "alone"], "those of other sequences do not wait"
        assert b.scheduler.queued == 2
        await b.answer("first", "1")
        assert b.came("last")[3:] == ["1", "2", "3"]
        for name in b.came("last"):
            await b.answer("last", name)
        await asyncio.gather(*futures, *others)
        b.assert_nothing_is_kept()


@pytest.mark.parametrize("how", ["cancelled", "failed", "late", "refused"])
async def test_who_ends_on_the_way_lets_the_next_one_go(how: str) -> None:
    async with bench() as b:
        deadline_ns = b.clock.now + 1_000
        first = b.submit("1", deadline_ns=deadline_ns) if how == "late" else b.submit("1")
        b.submit("2")
        await b.answer("first", "2")
        assert b.came("last") == []
        if how == "cancelled":
            first.cancel()
        elif how == "failed":
            b.models["first"].fail(InvalidArgumentError("bad"), 0)
        elif how == "late":
            b.clock.advance_us(2)
            with pytest.raises(DeadlineExceededError):
                await asyncio.wait_for(first, 20)
        else:
            b.models["last"].refusal = UnavailableError("full")
            await b.answer("first", "1")
            with pytest.raises(UnavailableError):
                await first
            return  # and so was the second one
        await settle()
        assert b.came("last") == ["2"]


async def test_who_does_not_need_a_step_lets_the_next_one_pass_and_not_overtake() -> None:
    """The second request never enters `last`; the third one still waits for the first there."""
    async with bench(writes=("middle", "end")) as b:
        b.submit("1")
        second = b.submit("2", outputs=("middle",))
        b.submit("3")
        await b.answer("first", "2")
        await b.answer("first", "3")
        assert second.done()
        assert b.came("last") == []
        await b.answer("first", "1")
        assert b.came("last") == ["1", "3"]


async def test_who_waits_for_room_in_a_step_holds_back_its_followers_and_no_others() -> None:
    async with bench(max_inflight_requests=1) as b:
        for name, sequence in (("x", "t"), ("1", "s"), ("2", "s"), ("y", "t")):
            b.submit(name, sequence)
        for model in ("first", "last"):
            for name in ("x", "1", "y", "2"):
                assert b.came(model)[-1] == name
                await b.answer(model, name)
        b.assert_nothing_is_kept()


async def test_what_waits_for_its_turn_is_bounded() -> None:
    async with bench(max_queue_size=2) as b:
        b.submit("1")
        for name in ("2", "3"):
            b.submit(name)
            await b.answer("first", name)
        with pytest.raises(UnavailableError, match="2 requests wait for 'E/1', the limit is 2"):
            b.submit("4")


async def test_a_long_row_goes_at_last_without_nesting() -> None:
    async with bench() as b:
        names = [str(number) for number in range(2_000)]
        futures = [b.submit(name) for name in names]
        for index in range(1, len(names)):
            b.models["first"].answer(index, OUT=ROWS)
        await settle()
        b.models["first"].answer(0, OUT=ROWS)
        while len(b.came("last")) < len(names):
            await settle()
        assert b.came("last") == names
        for future in futures:
            future.cancel()
        await settle()
        b.assert_nothing_is_kept()


async def test_closing_starts_nothing_that_waited() -> None:
    async with bench() as b:
        b.submit("1")
        b.submit("2")
        await b.answer("first", "2")
        await b.scheduler.close()
        await settle()
        assert b.came("last") == []


async def test_a_turn_that_comes_while_its_owner_leaves_goes_on_to_the_next() -> None:
    order = SequenceOrder(asyncio.get_running_loop())
    went: list[str] = []
    places = {name: order.join("s", (0,)) for name in "abc"}
    for name in "cb":
        places[name].enter(0, lambda name=name: went.append(name))  # type: ignore[misc]  # mypy#12557
    places["a"].leave()
    places["b"].leave()  # its turn is on its way
    await settle()
    assert went[-1] == "c"
    assert order.waiting == 0
    places["c"].leave()
    places["c"].leave()
    assert not len(order)


class Scene(NamedTuple):
    """What each step reads, how many requests may be in a step, and what each request asks for."""

    reads: list[list[str]]
    limit: int
    requests: list[tuple[int, tuple[str, ...]]]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    count = draw(st.integers(1, 5))
    names = ["given", *(f"t{index}" for index in range(count))]
    reads = [
        draw(st.lists(st.sampled_from(names[: index + 1]), min_size=1, max_size=3, unique=True))
        for index in range(count)
    ]
    some = st.lists(st.sampled_from(names[1:]), min_size=1, unique=True).map(tuple)
    asked = st.one_of(st.just(tuple(names[1:])), some)
    requests = st.lists(st.tuples(st.sampled_from([1, 1, 1, 2, 0]), asked), min_size=3, max_size=10)
    return Scene(reads, draw(st.sampled_from([0, 0, 1, 2])), draw(requests))


class Play:
    """Submits, answers, fails, refuses, cancels and lets time pass as drawn, until nothing is at work."""

    def __init__(self, scene: Scene, data: st.DataObject, clock: FakeClock) -> None:
        self._scene = scene
        self._draw = data.draw
        self._clock = clock
        self._futures: list[asyncio.Future[InferResponse]] = []

    async def run(self) -> None:
        scene = self._scene
        steps = [
            step(f"m{index}", {f"I{place}": name for place, name in enumerate(each)}, {"OUT": f"t{index}"})
            for index, each in enumerate(scene.reads)
        ]
        writes = [f"t{index}" for index in range(len(steps))]
        bench = Bench(steps, writes, self._clock, max_inflight_requests=scene.limit)
        while self._act(bench):
            await self._turns(self._draw(st.sampled_from([0, 3, 60])))
            if not self._outstanding(bench):
                await self._turns(100)
        self._judge(bench)

    @staticmethod
    async def _turns(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    @staticmethod
    def _outstanding(bench: Bench) -> list[tuple[FakeModel, int]]:
        return [
            (model, index)
            for model in bench.models.values()
            for index, future in enumerate(model.futures)
            if not future.done()
        ]

    def _act(self, bench: Bench) -> bool:
        outstanding = self._outstanding(bench)
        actions = [self._submit] * (len(self._futures) < len(self._scene.requests))
        actions += [self._answer] * bool(outstanding)
        if actions:
            more = [self._fail] * bool(outstanding) + [self._cancel] * bool(self._futures)
            self._draw(st.sampled_from([*actions * 8, *more, self._refuse, self._pass]))(bench)
        return bool(actions)

    def _submit(self, bench: Bench) -> None:
        number = len(self._futures)
        sequence, outputs = self._scene.requests[number]
        late = {"deadline_ns": self._clock.now + 2_000_000}
        limits = self._draw(st.sampled_from([{}, {}, late]))
        self._futures.append(bench.submit(str(number), sequence, outputs, **limits))

    def _answer(self, bench: Bench) -> None:
        model, index = self._draw(st.sampled_from(self._outstanding(bench)))
        model.answer(index, OUT=ROWS)

    def _fail(self, bench: Bench) -> None:
        model, index = self._draw(st.sampled_from(self._outstanding(bench)))
        model.fail(InvalidArgumentError("bad"), index)

    def _cancel(self, bench: Bench) -> None:
        self._draw(st.sampled_from(self._futures)).cancel()

    def _refuse(self, bench: Bench) -> None:
        model = self._draw(st.sampled_from(list(bench.models.values())))
        model.refusal = None if model.refusal else UnavailableError("full")

    def _pass(self, bench: Bench) -> None:
        self._clock.advance_us(1_000)

    def _judge(self, bench: Bench) -> None:
        assert all(future.done() for future in self._futures), "nothing is at work, and someone waits"
        for future in self._futures:
            assert future.cancelled() or isinstance(future.exception(), NaiadError | None)
        for name in bench.models:
            for sequence in (1, 2):
                came = [int(each) for each in bench.came(name)]
                came = [each for each in came if self._scene.requests[each][0] == sequence]
                assert came == sorted(came), name
        bench.assert_nothing_is_kept()


@settings(max_examples=100)
@given(scenes(), st.data())
def test_order_holds_and_nobody_waits_for_ever_whatever_ends_when(scene: Scene, data: st.DataObject) -> None:
    run_stepped(lambda clock: Play(scene, data, clock).run())
