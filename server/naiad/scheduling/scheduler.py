"""The scheduler of one loaded model version: it owns the queue, the instances and every caller's future."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from naiad.core.errors import CancelledError, DeadlineExceededError, UnavailableError
from naiad.core.tensors import InferResponse, InferTimes
from naiad.runtime.instance import ModelInstance
from naiad.scheduling.batching import BatchReason, Run, Wait, next_batch
from naiad.scheduling.execution import Execution, Executor
from naiad.scheduling.queue import PendingRequest, RequestQueue
from naiad.scheduling.tensors import BatchBuffer, BatchLayout
from naiad.telemetry.statistics import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import InferRequest, ModelKey
    from naiad.runtime.session import Session
    from naiad.scheduling.batching import BatchPolicy
    from naiad.telemetry.statistics import VersionStatistics

Instance = ModelInstance["list[Execution]"]


class BatchScheduler:
    """Merges requests into batches and runs each on a free instance.

    Everything but the runs themselves happens on the event loop's thread, so there is no lock. A caller
    that cancels its future leaves the queue at once; once its batch runs, only its own result is dropped.
    """

    def __init__(
        self,
        key: ModelKey,
        *,
        policy: BatchPolicy,
        layout: BatchLayout,
        sessions: Sequence[tuple[str, Session]],
        statistics: VersionStatistics,
        max_queue_size: int,
        clock: Clock,
    ) -> None:
        """Start one instance thread for each (name, session).

        Args:
            key: the model version that answers are signed with.
            policy: how requests may be merged.
            layout: how tensors are joined and split.
            sessions: one entry an instance; several may name the same session.
            statistics: counts what happens here.
            max_queue_size: requests that may wait before further ones are refused.
            clock: the monotonic clock of deadlines and delays.
        """
        self._key = key
        self._policy = policy
        self._layout = layout
        self._statistics = statistics
        self._max_queue_size = max_queue_size
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue = RequestQueue()
        self._instances = [Instance(name, session, self._loop) for name, session in sessions]
        self._executors = {
            instance: Executor(layout, BatchBuffer(layout), clock) for instance in self._instances
        }
        self._idle = list(self._instances)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._closing = False
        self._drained = asyncio.Event()
        self._drained.set()

    def __repr__(self) -> str:
        return f"<BatchScheduler {self._key} queued={self.queued} busy={self.busy}/{len(self._instances)}>"

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Queue a validated request; the future yields its response or the error.

        Raises:
            UnavailableError: the version drains, or its queue is full.
        """
        if self._closing:
            raise UnavailableError(
                "Server is stopping, scheduler for model has stopped accepting new inference requests"
            )
        if len(self._queue) >= self._max_queue_size:
            raise UnavailableError(
                f"[request id: {request.request_id or '<id_unknown>'}] Exceeds maximum queue size: "
                f"{len(self._queue)} requests wait for '{self._key}', the limit is {self._max_queue_size} "
                "(--max-queue-size, or max_queue_size in the model's default_queue_policy)"
            )
        future: asyncio.Future[InferResponse] = self._loop.create_future()
        pending = PendingRequest(
            request,
            future,
            shape_key=self._layout.shape_key(request),
            enqueued_ns=self._clock.now_ns(),
        )
        self._queue.push(pending)
        future.add_done_callback(partial(self._forget_if_cancelled, pending))
        self._drained.clear()
        self._dispatch()
        return future

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is answered."""
        self._closing = True
        self._dispatch()
        await self._drained.wait()

    async def close(self) -> None:
        """Fail what still waits, let running batches end, and join the instance threads."""
        self._closing = True
        for pending in self._queue.clear():
            self._fail(pending, UnavailableError("the server stopped before this request could run"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for instance in self._instances:
            # A join blocks for as long as the session runs; the loop must go on answering meanwhile.
            await asyncio.to_thread(instance.close)
        self._drained.set()

    @property
    def queued(self) -> int:
        """Requests that wait for an instance."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """Instances that run a batch."""
        return len(self._instances) - len(self._idle)

    def _dispatch(self) -> None:
        """Give every idle instance a batch if there is one, and set the timer for what comes next."""
        now_ns = self._clock.now_ns()
        for pending in self._queue.pop_expired(now_ns):
            self._fail(
                pending, DeadlineExceededError("Request timeout expired: its deadline passed in the queue")
            )
        wake_ns = self._queue.next_deadline_ns()
        while self._idle:
            decision = next_batch(self._queue, now_ns, self._policy)
            if isinstance(decision, Run):
                self._start(self._queue.pop(decision.take), decision.reason)
                continue
            if isinstance(decision, Wait):
                wake_ns = decision.until_ns if wake_ns is None else min(wake_ns, decision.until_ns)
            break
        self._set_timer(wake_ns, now_ns)
        if not self._queue and len(self._idle) == len(self._instances):
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

    def _start(self, batch: list[PendingRequest], reason: BatchReason) -> None:
        instance = self._idle.pop()
        work = partial(
            self._executors[instance].execute,
            requests=[pending.request for pending in batch],
            left=lambda index: batch[index].future.cancelled(),
        )
        instance.submit(work, partial(self._finish, batch, reason))

    def _finish(
        self,
        batch: list[PendingRequest],
        reason: BatchReason,
        instance: Instance,
        result: list[Execution] | BaseException,
    ) -> None:
        self._idle.append(instance)
        if isinstance(result, BaseException):
            for pending in batch:
                self._fail(pending, result)
        else:
            waiting = iter(batch)
            for execution in result:
                self._answer(execution, waiting, reason)
        self._dispatch()

    def _answer(self, execution: Execution, waiting: Iterator[PendingRequest], reason: BatchReason) -> None:
        size = execution.batch_size
        if execution.retried:
            reason = BatchReason.RETRY
        if not execution.failed:
            self._statistics.record_execution(
                size,
                execution.infer_start_ns - execution.start_ns,
                execution.infer_end_ns - execution.infer_start_ns,
                execution.end_ns - execution.infer_end_ns,
            )
        for outcome in execution.outcomes:
            pending = next(waiting)
            if isinstance(outcome, Exception):
                self._fail(pending, outcome)
                continue
            times = InferTimes(
                queued_ns=pending.enqueued_ns,
                compute_start_ns=execution.start_ns,
                infer_start_ns=execution.infer_start_ns,
                infer_end_ns=execution.infer_end_ns,
                compute_end_ns=execution.end_ns,
            )
            self._statistics.record_success(times, pending.batch_size)
            if not pending.future.done():
                pending.future.set_result(InferResponse(self._key, outcome, size, reason.value, times))

    def _fail(self, pending: PendingRequest, error: BaseException) -> None:
        self._statistics.record_failure(self._clock.now_ns() - pending.enqueued_ns, _reason(error))
        if not pending.future.done():
            pending.future.set_exception(error)

    def _forget_if_cancelled(self, pending: PendingRequest, future: asyncio.Future[InferResponse]) -> None:
        if future.cancelled() and self._queue.discard(pending):
            self._fail(pending, CancelledError("the caller went away"))
            self._dispatch()


def _reason(error: BaseException) -> FailureReason:
    if isinstance(error, CancelledError):
        return FailureReason.CANCELED
    if isinstance(error, DeadlineExceededError):
        return FailureReason.REJECTED
    return FailureReason.OTHER if isinstance(error, UnavailableError) else FailureReason.BACKEND
