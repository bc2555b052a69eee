"""What every scheduler of a model version shares: callers' futures, the instances, the timer, the way out."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from time import thread_time_ns
from typing import TYPE_CHECKING, TypeAlias

from naiad.core.errors import CancelledError, DeadlineExceededError, UnavailableError
from naiad.scheduling.batching import BatchReason
from naiad.scheduling.deadlines import Deadlines, earliest
from naiad.scheduling.delivery import Delivery
from naiad.scheduling.instances import Instance, Instances
from naiad.scheduling.queue import PendingRequest
from naiad.scheduling.run_record import RunningBatch, RunRecord, failure_reason
from naiad.telemetry.statistics import FailureReason, RefusalReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import Array, InferRequest, InferResponse, ModelKey
    from naiad.runtime.session import Session
    from naiad.scheduling.admission import Admission
    from naiad.scheduling.execution import Execution
    from naiad.scheduling.inline import InlinePace
    from naiad.scheduling.rate_limiter import RateLimiter, Slot
    from naiad.scheduling.tensors import BatchLayout
    from naiad.telemetry.statistics import VersionStatistics

__all__ = ["Instance", "Outcome", "SchedulerBase"]

Outcome: TypeAlias = "dict[str, Array] | BaseException"


class SchedulerBase(ABC):
    """Accepts requests, runs batches on free instances, answers every caller once.

    Everything but the runs themselves happens on the event loop's thread, so there is no lock. A caller
    that cancels its future leaves the queue at once; once its batch runs, only its own result is dropped, and
    the run is ended, where the engine can, when no caller of the batch is left.
    Subclasses keep the waiting requests and decide what runs when.
    """

    defers: bool = False
    """Whether requests may come with `sources` and a `sink`."""

    def __init__(
        self,
        key: ModelKey,
        *,
        layout: BatchLayout,
        sessions: Sequence[tuple[str, Session]],
        statistics: VersionStatistics,
        max_queue_size: int,
        clock: Clock,
        preserve_ordering: bool = False,
    ) -> None:
        """Start one instance thread for each (name, session).

        Args:
            key: the model version that answers are signed with.
            layout: how tensors are joined and split.
            sessions: one entry an instance; several may name the same session.
            statistics: counts what happens here.
            max_queue_size: requests that may wait before further ones are refused.
            clock: the monotonic clock of deadlines and delays.
            preserve_ordering: answer in the order in which requests were started.
        """
        self._key = key
        self._layout = layout
        self._statistics = statistics
        statistics.batch_reasons.update((reason.value, 0) for reason in BatchReason)
        self._max_queue_size = max_queue_size
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._delivery = Delivery(in_order=preserve_ordering)
        self._deadlines: Deadlines[PendingRequest] = Deadlines(lambda pending: pending.waiting)
        self._instances = Instances(sessions, layout, clock)
        self._admission: Admission | None = None
        self._pace: InlinePace | None = None
        self._dispatched_ns = self._timer_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._drained = asyncio.Event()

    def __repr__(self) -> str:
        name, instances = type(self).__name__, len(self._instances)
        return f"<{name} {self._key} queued={self.queued} busy={self.busy}/{instances}>"

    @property
    @abstractmethod
    def queued(self) -> int:
        """Requests that wait for an instance."""

    @property
    def busy(self) -> int:
        """Instances that run a batch."""
        return self._instances.busy

    def limit(self, limiter: RateLimiter, slots: Sequence[Slot]) -> None:
        """Start instances only while the limiter lets them; one slot a session, given back on `close`."""
        self._instances.limit(limiter, slots, self._when_granted)

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Queue a validated request; the future yields its response or the error.

        Raises:
            UnavailableError: the version drains, or its queue is full.
            InvalidArgumentError: the request does not suit the scheduler, such as one without its sequence.
        """
        if self._closing:
            self._statistics.record_refused(RefusalReason.STOPPING)
            raise UnavailableError(
                "Server is stopping, scheduler for model has stopped accepting new inference requests"
            )
        queued = self.queued
        if queued >= self._max_queue_size:
            raise self._full(
                request,
                f": {queued} requests wait for '{self._key}', the limit is {self._max_queue_size} "
                "(--max-queue-size)",
            )
        now_ns = self._clock.now_ns()
        pending = PendingRequest(request, self._loop.create_future(), arrived_ns=now_ns)
        deadline_ns = pending.deadline_ns
        is_late = deadline_ns is not None and deadline_ns <= now_ns
        if is_late or not self._start_at_once(pending):
            self._accept(pending)
            if deadline_ns is not None:
                self._deadlines.push(deadline_ns, pending)
            self._dispatch()
        future = pending.future
        if not future.done():
            future.add_done_callback(partial(self._leave_if_cancelled, pending))
        return future

    def _start_at_once(self, pending: PendingRequest) -> bool:
        """Run a request that no decision is needed for; False if it must be accepted first."""
        del pending
        return False

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is answered."""
        self._closing = True
        self._drained.clear()
        self._dispatch()
        await self._drained.wait()

    async def close(self) -> None:
        """Fail what still waits, let running batches end, and join the instance threads."""
        self._closing = True
        for pending in self._clear():
            self._fail(pending, UnavailableError("the server stopped before this request could run"))
        if self._instances.gate is not None:
            self._instances.gate.settle()
        await self._instances.close()
        self._set_timer(None, 0)  # at last: each batch that ended looked for what comes next
        self._drained.set()

    @abstractmethod
    def _accept(self, pending: PendingRequest) -> None:
        """Let the request wait; raises what `submit` raises if it may not."""

    @abstractmethod
    def _work(self, now_ns: int) -> int | None:
        """Let go what has waited too long, start what can run, and say when to look again."""

    @abstractmethod
    def _withdraw(self, pending: PendingRequest) -> Iterable[PendingRequest]:
        """Take out a request that still waits, and those that cannot run without it; yields the latter."""

    @abstractmethod
    def _clear(self) -> Iterable[PendingRequest]:
        """Take out everything that waits."""

    def _ran(self, pending: PendingRequest, outcome: Outcome) -> Outcome:
        """What the caller gets: the outputs or the error. Every request that ran comes by here, once."""
        del pending
        return outcome

    def _reruns(self, pending: PendingRequest) -> bool:
        """Whether a request whose batch failed runs again alone: not if nobody waits for it."""
        return not pending.future.cancelled()

    def _full(self, request: InferRequest, more: str = "") -> UnavailableError:
        """The refusal in Triton's words, and `more` where the limit is not one of Triton's."""
        self._statistics.record_refused(RefusalReason.QUEUE_FULL)
        return UnavailableError(
            f"[request id: {request.request_id or '<id_unknown>'}] Exceeds maximum queue size{more}"
        )

    def _dispatch(self) -> None:
        """Give every idle instance a batch if there is one, and set the timer for what comes next."""
        now_ns = self._dispatched_ns = self._clock.now_ns()
        for pending in self._deadlines.pop_due(now_ns):
            if pending.waiting:  # it may have left with one before it
                error = DeadlineExceededError("Deadline Exceeded")  # what its own clock tells the client
                self._leave(pending, error)
        wake_ns = earliest(self._work(now_ns), self._deadlines.next_ns())
        if self._instances.gate is not None:
            self._instances.gate.settle()
        self._set_timer(wake_ns, now_ns)
        if self._closing and not self._instances.busy and not self.queued:
            self._drained.set()

    def _set_timer(self, wake_ns: int | None, now_ns: int) -> None:
        if wake_ns == self._timer_ns and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_ns is not None:
            self._timer_ns = wake_ns
            self._timer = self._loop.call_later(max(0, wake_ns - now_ns) / 1e9, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _when_granted(self) -> None:
        self._loop.call_soon(self._on_grant)  # the limiter is still handing out

    def _on_grant(self) -> None:
        if self._instances.gate is not None:  # not closed meanwhile
            self._dispatch()

    def _start(
        self, instance: Instance, rows: Sequence[PendingRequest | InferRequest], reason: BatchReason
    ) -> None:
        """Run the rows on an idle instance; one that is no pending request only fills its place."""
        requests = []
        padding = items = 0
        for row in rows:
            if isinstance(row, PendingRequest):
                row.waiting = False
                items += row.batch_size
                requests.append(row.feed)
            else:
                items += row.batch_size
                requests.append(row)
                padding += 1
        self._delivery.expect(rows)
        self._instances.start(
            instance,
            RunningBatch(rows, items, self._dispatched_ns, padding),
            requests,
            left=partial(self._is_not_rerun, rows),
            done=partial(self._finish, rows, reason),
        )

    def _run_here(
        self, instance: Instance, pending: PendingRequest, reason: BatchReason, pace: InlinePace
    ) -> None:
        """Run one request on the event loop's thread, on an idle instance."""
        is_measured = pace.measures_next()
        before_ns = thread_time_ns() if is_measured else 0
        pending.waiting = False
        execution = self._instances.run_here(instance, pending.feed)
        self._statistics.inline_runs += 1
        self._delivery.expect((pending,))  # not before: what is raised here is never delivered
        if is_measured:
            pace.ran_inline(thread_time_ns() - before_ns)
        pace.lasted(execution.end_ns - execution.start_ns)
        self._answer(execution, iter((pending,)), reason, instance.name, 0)

    def _is_not_rerun(self, rows: Sequence[PendingRequest | InferRequest], index: int) -> bool:
        row = rows[index]
        return not (isinstance(row, PendingRequest) and self._reruns(row))

    def _finish(
        self,
        rows: Sequence[PendingRequest | InferRequest],
        reason: BatchReason,
        instance: Instance,
        result: list[Execution] | BaseException,
    ) -> None:
        padding = self._instances.ended(instance).padding
        if isinstance(result, BaseException):
            for row in rows:
                if isinstance(row, PendingRequest):
                    self._ran(row, result)
                    self._fail(row, result)
        else:
            remaining = iter(rows)
            for execution in result:
                self._answer(execution, remaining, reason, instance.name, 0 if execution.retried else padding)
                if self._pace is not None and execution.batch_size == 1 and not execution.failed:
                    self._pace.ran_on_thread(execution.end_ns - execution.start_ns)
        if self._must_look():
            self._dispatch()

    def _must_look(self) -> bool:
        """Whether an instance that became idle may have something to do."""
        return True

    def _answer(
        self,
        execution: Execution,
        remaining: Iterator[PendingRequest | InferRequest],
        reason: BatchReason,
        instance: str,
        padding: int,
    ) -> None:
        run = RunRecord(
            self._key,
            execution,
            (BatchReason.RETRY if execution.retried else reason).value,
            instance,
            requests=len(execution.outcomes) - padding,
            padding=padding + execution.padding,
        )
        run.record(self._statistics, self._admission)
        for outcome in execution.outcomes:
            row = next(remaining)
            if not isinstance(row, PendingRequest):
                continue
            if execution.batch_size and not self._reruns(row):
                self._statistics.record_wasted(row.batch_size, run.share_ns(row.batch_size))
            told = self._ran(row, outcome)
            if isinstance(told, BaseException):
                self._fail(row, told)
                continue
            response = run.response(row, told)
            self._statistics.record_success(response.times, row.batch_size)
            self._delivery.deliver(row, response)

    def _leave(
        self, pending: PendingRequest, error: BaseException, reason: FailureReason | None = None
    ) -> None:
        """Let a waiting request go, and with it those that make no sense without it."""
        dependents = self._withdraw(pending)
        self._fail(pending, error, reason)
        for other in dependents:
            self._fail(other, CancelledError("an earlier request of the same sequence was not run"))

    def _fail(
        self, pending: PendingRequest, error: BaseException, reason: FailureReason | None = None
    ) -> None:
        pending.waiting = False
        passed_ns = self._clock.now_ns() - pending.arrived_ns
        self._statistics.record_failure(passed_ns, reason or failure_reason(error))
        self._delivery.deliver(pending, error)

    def _leave_if_cancelled(self, pending: PendingRequest, future: asyncio.Future[InferResponse]) -> None:
        if not future.cancelled():
            return
        if pending.waiting:
            self._leave(pending, CancelledError("the caller went away"))
            self._dispatch()
        else:
            self._end_if_unwanted(pending)

    def _end_if_unwanted(self, pending: PendingRequest) -> None:
        """End the run of a request whose caller has left, if nobody waits for any of its batch."""
        for instance, batch in self._instances.running.items():
            if any(row is pending for row in batch.rows):
                if not any(isinstance(row, PendingRequest) and self._reruns(row) for row in batch.rows):
                    self._terminate(instance)
                return

    def _terminate(self, instance: Instance) -> None:
        if not instance.terminated and instance.terminate():
            self._statistics.record_terminated()
