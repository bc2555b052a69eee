"""Who plays clients of sequences and the engine against a scheduler, and judges each thing that it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.scripts import Cancel, Finish, Pass
from support.sequences import EMPTY, Row, item, value_of
from support.stepped import Stage, SteppedSession

from naiad.config.sequence_config import DirectStrategy, OldestStrategy
from naiad.core.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    UnavailableError,
)
from naiad.scheduling.batching import Run, next_batch
from naiad.scheduling.sequence.direct import DirectScheduler
from naiad.scheduling.sequence.oldest import OldestScheduler
from naiad.scheduling.sequence.rows import RunRows, next_rows
from naiad.telemetry.statistics import FailureReason

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from naiad.core.tensors import Array, InferRequest, InferResponse, Tensors
    from naiad.scheduling.base import Instance
    from naiad.telemetry.statistics import VersionStatistics

FAILS = 100_000
"""An INPUT from here on makes a run fail."""

Strategy = DirectStrategy | OldestStrategy


@dataclass(frozen=True)
class Setting:
    strategy: Strategy
    max_batch_size: int
    instances: int
    idle_us: int

    @property
    def slots(self) -> int:
        rows = max(1, self.max_batch_size)
        if isinstance(self.strategy, OldestStrategy):
            rows = self.strategy.max_candidate_sequences or rows
        return rows * self.instances


@dataclass(frozen=True)
class Send:
    sequence: int
    flags: str
    timeout_us: int
    deadline_us: int | None
    fails: bool


Step = Send | Cancel | Finish | Pass


class Adding(SteppedSession):
    """OUTPUT = SUM_OUT = INPUT + SUM_IN; an INPUT of FAILS or more fails."""

    def answer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        if np.any(inputs["INPUT"] >= np.array(FAILS, inputs["INPUT"].dtype)):
            raise InvalidArgumentError("the graph does not take this value")
        return dict.fromkeys(outputs, np.add(inputs["INPUT"], inputs["SUM_IN"]))

    def rows(self) -> list[tuple[Row, int]]:
        """What the last run was given, and the state in each row."""
        given = self.given[-1]
        names = ("INPUT", "START", "END", "READY", "CORRID")
        columns = [given[name].reshape(-1).tolist() for name in names]
        return list(zip(map(Row._make, zip(*columns, strict=True)), given["SUM_IN"].reshape(-1), strict=True))


@dataclass(eq=False)
class Sent:
    """One accepted request."""

    value: int
    request: InferRequest
    sequence: Known
    arrived_ns: int
    future: asyncio.Future[InferResponse] = field(init=False)
    started: bool = False
    sum: int = 0  # what it must answer, once it was started

    @property
    def waits(self) -> bool:
        return not self.started and not self.future.done()


@dataclass(eq=False)
class Known:
    """One sequence, as its client and its slot know it."""

    number: int
    requests: list[Sent] = field(default_factory=list)
    open: bool = True
    sum: int = 0
    running: Sent | None = None
    slot: tuple[Instance, int] | None = None
    idle_ns: int | None = None

    @property
    def waiting(self) -> list[Sent]:
        return [each for each in self.requests if each.waits]

    @property
    def alive(self) -> bool:
        """Whether it may hold a slot."""
        return self.open or self.running is not None or bool(self.waiting)


class Witness:
    """Plays clients and engine against a scheduler and judges all that it does."""

    def __init__(self, setting: Setting, stage: Stage[Adding], statistics: VersionStatistics) -> None:
        assert isinstance(stage.scheduler, DirectScheduler | OldestScheduler)
        self.scheduler: DirectScheduler | OldestScheduler = stage.scheduler
        self.setting = setting
        self.stage = stage
        self.clock = stage.clock
        self.statistics = statistics
        self.sent: dict[int, Sent] = {}
        self.sequences: list[Known] = []
        self.running: dict[Instance, list[Sent]] = {}
        self.started: list[Sent] = []
        self.told: list[Sent] = []
        self.count = 0

    async def step(self, step: Step) -> None:
        waited = [each for each in self.sent.values() if each.waits]
        if isinstance(step, Send):
            self.send(step)
        elif isinstance(step, Cancel):
            wanted = [each for each in self.sent.values() if not each.future.done()]
            if wanted:
                wanted[step.which % len(wanted)].future.cancel()
        elif isinstance(step, Finish):
            await self.finish(step.which)
        else:
            self.clock.advance_us(step.us)
        begun = await self.stage.settle()
        self.follow_those_who_left(waited)
        self.end_idle()
        for instance in begun:
            self.begin(instance)
        self.check()

    def find_open(self, number: int) -> Known | None:
        return next((each for each in self.sequences if each.number == number and each.open), None)

    def send(self, step: Send) -> None:
        now = self.clock.now
        self.count += 1
        value = self.count + (FAILS if step.fails else 0)
        deadline_ns = None if step.deadline_us is None else now + 1_000 * step.deadline_us
        request = item(step.sequence, value, step.flags, timeout_us=step.timeout_us, deadline_ns=deadline_ns)
        if self.setting.max_batch_size == 0:
            request.inputs["INPUT"] = request.inputs["INPUT"][0]
        known = self.find_open(step.sequence)
        if known is None and not request.sequence_start:
            with pytest.raises(
                InvalidArgumentError, match="must specify the START flag on the first request"
            ):
                self.scheduler.submit(request)
            return
        if known is None:
            known = Known(step.sequence)
            self.sequences.append(known)
        made = self.sent[value] = Sent(value, request, known, now)
        made.future = self.scheduler.submit(request)
        made.future.add_done_callback(lambda _: self.told.append(made))
        known.requests.append(made)
        known.idle_ns = None
        if request.sequence_end:
            known.open = False

    async def finish(self, which: int) -> None:
        if not self.running:
            return
        instance = list(self.running)[which % len(self.running)]
        batch = self.running.pop(instance)
        rows = len(self.stage.session(instance).given[-1]["INPUT"])
        again = await self.stage.finish(instance)
        failed = any(each.value >= FAILS for each in batch)
        alone = batch if rows > 1 and failed else []  # all of them, whoever has left: for their states
        assert [int(each["INPUT"].flat[0]) for each in again] == [each.value for each in alone]
        for sent in batch:
            known = sent.sequence
            known.running = None
            if sent.value < FAILS:
                known.sum = sent.sum
            if known.open and not known.waiting:
                known.idle_ns = self.clock.now

    def follow_those_who_left(self, waited: list[Sent]) -> None:
        """Whoever left unrun took along what came after it, up to the next START; without one all ended."""
        begun = {value for each in self.stage.instances if each.busy for value in self.values(each)}
        left = [each for each in waited if each.future.done() and each.value not in begun]
        for sent in left:
            known = sent.sequence
            after = known.requests[known.requests.index(sent) + 1 :]
            later = next((index for index, each in enumerate(after) if each.request.sequence_start), None)
            assert all(each.future.done() for each in after[:later]), "left behind without its state"
            if later is None:
                known.open = False

    def end_idle(self) -> None:
        for known in self.sequences:
            idle = known.open and known.idle_ns is not None and not known.waiting
            if idle and known.idle_ns is not None:
                known.open = self.clock.now < known.idle_ns + 1_000 * self.setting.idle_us

    def values(self, instance: Instance) -> list[int]:
        return [row.value for row, _ in self.stage.session(instance).rows() if row.ready]

    def begin(self, instance: Instance) -> None:
        """Judge a batch by its rows."""
        rows = self.stage.session(instance).rows()
        direct = isinstance(self.scheduler, DirectScheduler)
        assert len(rows) <= max(1, self.setting.max_batch_size)
        assert rows[-1][0].ready, "empty rows at the end"
        batch = []
        for index, (row, state) in enumerate(rows):
            if not row.ready:
                assert direct, "empty rows are the direct strategy's alone"
                assert (row, state) == (EMPTY, 0)
                continue
            sent = self.sent[row.value]
            self.begin_row(sent, row, int(state))
            if direct:
                sent.sequence.slot = sent.sequence.slot or (instance, index)
                assert sent.sequence.slot == (instance, index), "a sequence changed its slot"
            batch.append(sent)
        self.running[instance] = batch
        self.started += batch

    def begin_row(self, sent: Sent, row: Row, state: int) -> None:
        known, request, now = sent.sequence, sent.request, self.clock.now
        assert not sent.started, "run twice"
        assert not any(each.waits for each in known.requests[: known.requests.index(sent)]), "out of order"
        assert known.running is None, "two of one sequence at a time"
        assert request.deadline_ns is None or now < request.deadline_ns
        assert (row.start, row.end, row.corrid) == (
            request.sequence_start,
            request.sequence_end,
            known.number,
        )
        expected = 0 if request.sequence_start else known.sum
        assert state == expected, "another state than its own"
        sent.started, sent.sum = True, expected + sent.value
        known.running = sent
        if request.sequence_start:
            known.sum = 0

    def check(self) -> None:
        """Judge who waits, who has a slot, and whether anything that could run stands still."""
        now = self.clock.now
        waiting = [each for each in self.sent.values() if each.waits]
        assert self.scheduler.queued == len(waiting)
        assert self.scheduler.busy == len(self.running)
        table = self.scheduler._desk.table
        alive = [each for each in self.sequences if each.alive]
        assert [each.id for each in table._live] == [each.number for each in alive]
        with_slot = [each for each, live in zip(alive, table._live, strict=True) if live.slot]
        assert with_slot == alive[: self.setting.slots], "a slot stands empty, or somebody was overtaken"
        for sent in waiting:
            assert sent.request.deadline_ns is None or now < sent.request.deadline_ns
            if sent.sequence not in with_slot and sent.request.timeout_us:
                assert now < sent.arrived_ns + 1_000 * sent.request.timeout_us
        self.check_idle_instances()
        running = [each for batch in self.running.values() for each in batch]
        assert not any(each.future.done() and not each.future.cancelled() for each in running)

    def check_idle_instances(self) -> None:
        scheduler, now = self.scheduler, self.clock.now
        idle = [each for each in self.stage.instances if not each.busy]
        ready = scheduler._desk.table.ready
        if isinstance(scheduler, OldestScheduler):
            assert not ready[0]
            if idle:
                assert not isinstance(next_batch(scheduler._queue, now, scheduler._policy), Run)
            return
        for instance in idle:
            group = list(scheduler._instances).index(instance)
            heads = {row: sequence.waiting[0] for row, sequence in ready[group].items()}
            assert not isinstance(next_rows(heads, now, scheduler._policy), RunRows)

    def judge(self) -> None:
        """Everybody was told the truth once, and the counters know it."""
        answered = failed = cancelled = expired = 0
        for sent in self.sent.values():
            assert sent.future.done()
            if sent.future.cancelled():
                cancelled += 1
            elif (error := sent.future.exception()) is None:
                answered += 1
                assert sent.started
                assert value_of(sent.future.result()) == sent.sum
            else:
                failed += 1
                expired += self.check_error(sent, error)
        assert answered + failed + cancelled == len(self.sent) == len(self.told)
        statistics = self.statistics
        assert statistics.success.count + statistics.fail.count == len(self.sent)
        good = [each for each in self.started if each.value < FAILS]
        assert statistics.success.count == len(good)
        assert statistics.failures[FailureReason.REJECTED] == expired
        assert statistics.failures[FailureReason.BACKEND] == len(self.started) - len(good)
        if isinstance(self.setting.strategy, OldestStrategy) and self.setting.strategy.preserve_ordering:
            wanted = [each for each in self.started if not each.future.cancelled()]
            assert [each for each in self.told if each in wanted] == wanted

    def check_error(self, sent: Sent, error: BaseException) -> bool:
        """Judge what a caller was told; True if its time, or that of its sequence in the backlog, had passed."""
        if sent.started:
            assert isinstance(error, InvalidArgumentError)
            assert sent.value >= FAILS
            return False
        requests = sent.sequence.requests
        if isinstance(error, DeadlineExceededError):
            assert sent.request.deadline_ns is not None
            return True
        if isinstance(error, CancelledError):
            before = requests[: requests.index(sent)]
            assert any(not each.started for each in before), "nobody before it has left"
            return False
        assert isinstance(error, UnavailableError)
        assert error.message == "timeout of the corresponding sequence has been expired"
        assert any(each.request.timeout_us for each in requests)
        assert not any(each.started for each in requests)
        return True
