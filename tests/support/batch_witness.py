"""Who plays callers and engine against a dynamic batcher, and judges each thing that it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from support.scripts import Cancel, Finish, Pass
from support.stepped import EndingSession, Stage, SteppedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, TimeoutAction
from naiad.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from naiad.core.tensors import InferRequest
from naiad.scheduling.batching import Run, next_batch
from naiad.scheduling.factory import batch_policy
from naiad.telemetry.statistics import FailureReason, RefusalReason

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable, Sequence

    from naiad.config.model_config import QueuePolicy
    from naiad.core.tensors import Array, InferResponse, Tensors
    from naiad.scheduling.base import Instance
    from naiad.telemetry.statistics import VersionStatistics


@dataclass(frozen=True)
class Setting:
    """A model and a server."""

    max_batch_size: int
    batching: DynamicBatching
    instances: int
    max_queue_size: int
    admission: bool
    can_end_runs: bool


@dataclass(frozen=True)
class Send:
    rows: int
    width: int
    priority: int
    timeout_us: int
    deadline_us: int | None
    fails: bool


Step = Send | Cancel | Finish | Pass


class Doubling(SteppedSession):
    """OUTPUT0 = 2 * INPUT0; a negative number fails."""

    def answer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        array = inputs["INPUT0"]
        if np.any(array < np.zeros((), array.dtype)):
            raise InvalidArgumentError("the graph does not take this value")
        return dict.fromkeys(outputs, np.multiply(array, 2))


class EndingDoubling(EndingSession, Doubling):
    """One whose runs can be ended."""


@dataclass(eq=False)
class Sent:
    """One accepted request, and all that can be known of it from outside."""

    number: int
    request: InferRequest
    batch_size: int
    shape_key: Hashable
    level: int
    enqueued_ns: int
    expiry_ns: int | None
    delays: bool
    future: asyncio.Future[InferResponse] = field(init=False)
    started_ns: int | None = None
    mates: int = 0  # requests that it shared its batch with, itself included
    done_ns: int | None = None

    @property
    def fails(self) -> bool:
        return bool((self.request.inputs["INPUT0"] < np.float32(0)).any())

    def place(self, now_ns: int) -> tuple[int, bool, int, int]:
        """Where it stands among those that wait: by level, those past their timeout last, then by arrival."""
        delayed = self.delays and self.expiry_ns is not None and self.expiry_ns <= now_ns
        return (self.level, delayed, self.expiry_ns or 0 if delayed else 0, self.number)


class Witness:
    """Plays callers and engine against a scheduler and judges all that it does."""

    def __init__(
        self, setting: Setting, config: ModelConfig, stage: Stage[Doubling], statistics: VersionStatistics
    ) -> None:
        self.setting = setting
        self.stage = stage
        self.statistics = statistics
        self.clock = stage.clock
        self.policy = batch_policy(config)
        self.sent: list[Sent] = []
        self.refused = 0
        self.running: dict[Instance, list[Sent]] = {}
        self.started: list[Sent] = []
        self.told: list[Sent] = []  # of those that were started, in the order in which they were answered

    @property
    def waiting(self) -> list[Sent]:
        """In the order in which they must leave."""
        now = self.clock.now
        left = [each for each in self.sent if each.started_ns is None and not each.future.done()]
        return sorted(left, key=lambda each: each.place(now))

    async def step(self, step: Step) -> None:
        if isinstance(step, Send):
            self.send(step)
        elif isinstance(step, Cancel):
            waited_for = [each for each in self.sent if not each.future.done()]
            if waited_for:
                waited_for[step.which % len(waited_for)].future.cancel()
        elif isinstance(step, Finish):
            await self.finish(step.which)
        else:
            self.clock.advance_us(step.us)
        await self.settle()

    def send(self, step: Send) -> None:
        now = self.clock.now
        number = len(self.sent) + self.refused + 1
        made = self.make(step, number)
        request = made.request
        waiting = self.waiting
        alike = [each for each in waiting if each.level == made.level]
        limit = self.queue_policy(made.level).max_queue_size
        full = len(waiting) >= self.setting.max_queue_size or bool(limit and len(alike) >= limit)
        try:
            made.future = self.stage.scheduler.submit(request)
        except UnavailableError:
            assert full, f"refused with {len(waiting)} waiting"
            self.refused += 1
        except ResourceExhaustedError:
            assert self.setting.admission
            assert request.deadline_ns is not None or (made.expiry_ns and not made.delays)
            assert waiting or len(self.running) == self.setting.instances
            assert request.deadline_ns is None or request.deadline_ns > now
            self.refused += 1
        else:
            assert not full
            self.sent.append(made)
            made.future.add_done_callback(lambda _: self.on_told(made))

    def make(self, step: Send, number: int) -> Sent:
        now = self.clock.now
        batched = self.setting.max_batch_size > 0
        rows = min(step.rows, max(1, self.setting.max_batch_size))
        shape = (rows, step.width) if batched else (step.width,)
        deadline_ns = None if step.deadline_us is None else now + 1_000 * step.deadline_us
        request = InferRequest(
            "m",
            None,
            {"INPUT0": np.full(shape, -number if step.fails else number, np.float32)},
            batch_size=rows if batched else 1,
            deadline_ns=deadline_ns,
            priority=step.priority,
            timeout_us=step.timeout_us,
        )
        levels = self.setting.batching.priority_levels
        level = (
            step.priority if 1 <= step.priority <= levels else self.setting.batching.default_priority_level
        )
        policy = self.queue_policy(level)
        timeout_us = policy.default_timeout_us
        if policy.allow_timeout_override and 0 < step.timeout_us < timeout_us:
            timeout_us = step.timeout_us
        return Sent(
            number,
            request,
            request.batch_size,
            (step.width,),
            level,
            now,
            now + 1_000 * timeout_us if timeout_us else None,
            policy.timeout_action is TimeoutAction.DELAY,
        )

    def queue_policy(self, level: int) -> QueuePolicy:
        batching = self.setting.batching
        return batching.priority_queue_policy.get(level, batching.default_queue_policy)

    def on_told(self, sent: Sent) -> None:
        assert sent.done_ns is None, "told twice"
        sent.done_ns = self.clock.now
        if not sent.future.cancelled() and sent.started_ns is not None:
            self.told.append(sent)

    async def finish(self, which: int) -> None:
        """End one of the runs; those of its requests that nobody waits for are not run again alone."""
        if not self.running:
            return
        instance = list(self.running)[which % len(self.running)]
        batch = self.running.pop(instance)
        again = await self.stage.finish(instance)
        alone = batch if len(batch) > 1 and any(each.fails for each in batch) else []
        still_wanted = [each for each in alone if not each.future.cancelled()]
        assert [each["INPUT0"].flat[0] for each in again] == [
            each.request.inputs["INPUT0"].flat[0] for each in still_wanted
        ]

    async def settle(self) -> None:
        """Let happen what can happen, and judge it."""
        before = set(self.running)
        order = self.waiting  # of before; those that are gone afterwards left before anything was started
        begun = await self.stage.settle()
        busy = {each for each in self.stage.instances if each.busy}
        for instance in before - busy | before & set(begun):
            ended = self.running.pop(instance)  # by itself: nobody waited for any of it
            assert self.setting.can_end_runs
            assert all(each.future.cancelled() for each in ended)
        order = [each for each in order if not each.future.done()]
        batches = {instance: self.batch(instance, order) for instance in begun}
        for instance, batch in batches.items():
            decision = next_batch(order, self.clock.now, self.policy)
            assert isinstance(decision, Run), f"started {batch} for no reason"
            assert batch == order[: decision.take], "not those at the head of the queue"
            del order[: decision.take]
            self.start(instance, batch)
        if len(self.running) < self.setting.instances:
            assert not isinstance(next_batch(order, self.clock.now, self.policy), Run), "left waiting"
        assert order == self.waiting
        assert self.stage.scheduler.queued == len(order)
        assert self.stage.scheduler.busy == len(self.running)
        self.check_waiting(order)
        self.check_told()

    def batch(self, instance: Instance, order: list[Sent]) -> list[Sent]:
        """The requests that the instance was given, by their rows."""
        given = self.stage.session(instance).given[-1]["INPUT0"]
        rows = given[:, 0] if self.setting.max_batch_size else given[:1]
        numbers = [int(abs(row)) for row in rows]
        by_number = {each.number: each for each in order}
        batch = [by_number[number] for number in dict.fromkeys(numbers)]
        if self.setting.max_batch_size:
            assert numbers == [each.number for each in batch for _ in range(each.batch_size)]
        return batch

    def start(self, instance: Instance, batch: list[Sent]) -> None:
        now = self.clock.now
        assert len({each.shape_key for each in batch}) == 1
        limit = self.setting.max_batch_size
        assert sum(each.batch_size for each in batch) <= limit if limit else len(batch) == 1
        for sent in batch:
            deadline_ns = sent.request.deadline_ns
            assert deadline_ns is None or now < deadline_ns
            assert sent.expiry_ns is None or sent.delays or now < sent.expiry_ns
            sent.started_ns, sent.mates = now, len(batch)
        self.running[instance] = batch
        self.started += batch

    def check_waiting(self, order: list[Sent]) -> None:
        """Nobody waits beyond its time."""
        for sent in order:
            assert sent.request.deadline_ns is None or sent.request.deadline_ns > self.clock.now
            assert sent.delays or sent.expiry_ns is None or sent.expiry_ns > self.clock.now

    def check_told(self) -> None:
        """Whoever's run has ended has its answer, unless an earlier one is still to be answered before it."""
        running = [each for batch in self.running.values() for each in batch]
        if self.setting.batching.preserve_ordering:
            order = [each for each in self.started if not each.future.cancelled()]
            assert self.told == [each for each in order if each in self.told]
            first = min(map(self.started.index, running), default=len(self.started))
            ended = self.started[:first]
        else:
            ended = [each for each in self.started if each not in running]
        assert all(each.future.done() for each in ended)
        assert not any(each.future.done() and not each.future.cancelled() for each in running)

    def judge(self, *, closed: bool) -> None:
        """Everybody was told the truth once, and the counters know it."""
        counts = {"answered": 0, "failed": 0, "cancelled": 0}
        expired = 0
        for sent in self.sent:
            assert sent.future.done()
            if sent.future.cancelled():
                counts["cancelled"] += 1
                continue
            error = sent.future.exception()
            if error is None:
                counts["answered"] += 1
                self.check_answer(sent, sent.future.result())
                continue
            counts["failed"] += 1
            expired += self.check_error(sent, error, closed=closed)
        accepted = len(self.sent)
        assert sum(counts.values()) == accepted
        statistics = self.statistics
        assert statistics.success.count + statistics.fail.count == accepted
        assert counts["answered"] <= statistics.success.count <= counts["answered"] + counts["cancelled"]
        assert sum(statistics.failures.values()) == statistics.fail.count
        assert statistics.failures[FailureReason.REJECTED] == expired
        assert statistics.failures[FailureReason.CANCELED] <= counts["cancelled"]
        refusals = statistics.refusals[RefusalReason.QUEUE_FULL], statistics.refusals[RefusalReason.DEADLINE]
        assert sum(refusals) == self.refused

    def check_answer(self, sent: Sent, response: InferResponse) -> None:
        assert not sent.fails
        np.testing.assert_array_equal(response.outputs["OUTPUT0"], 2 * sent.request.inputs["INPUT0"])
        assert response.times.queued_ns == sent.enqueued_ns
        assert response.batch_requests == (1 if response.batch_reason == "retry" else sent.mates)

    def check_error(self, sent: Sent, error: BaseException, *, closed: bool) -> bool:
        """Judge what a caller was told; True if its time had passed."""
        if sent.started_ns is not None:
            assert sent.fails
            assert isinstance(error, InvalidArgumentError)
            return False
        if isinstance(error, DeadlineExceededError):
            assert (sent.request.deadline_ns or sent.enqueued_ns) <= (sent.done_ns or 0)
            return True
        assert isinstance(error, UnavailableError)
        if error.message == "Request timeout expired":
            assert not sent.delays
            assert sent.expiry_ns is not None
            assert sent.expiry_ns <= (sent.done_ns or 0)
            return True
        assert closed
        assert "stopped before this request could run" in error.message
        return False
