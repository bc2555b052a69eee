"""The scheduler of models whose requests stand for themselves: one queue, batches off its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import ResourceExhaustedError, UnavailableError
from naiad.scheduling.base import SchedulerBase
from naiad.scheduling.batching import Run, Wait, next_batch
from naiad.scheduling.deadlines import earliest
from naiad.scheduling.queue import RequestQueue
from naiad.telemetry.statistics import FailureReason, RefusalReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import ModelKey
    from naiad.runtime.session import Session
    from naiad.scheduling.admission import Admission
    from naiad.scheduling.batching import BatchPolicy, BatchReason
    from naiad.scheduling.inline import InlinePace
    from naiad.scheduling.policies import PriorityLevels
    from naiad.scheduling.queue import PendingRequest
    from naiad.scheduling.tensors import BatchLayout
    from naiad.telemetry.statistics import VersionStatistics


class BatchScheduler(SchedulerBase):
    """Merges requests into batches and runs each on a free instance."""

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
        levels: PriorityLevels | None = None,
        preserve_ordering: bool = False,
        admission: Admission | None = None,
    ) -> None:
        """Start one instance thread for each (name, session).

        Args:
            key: the model version that answers are signed with.
            policy: how requests may be merged.
            layout: how tensors are joined and split.
            sessions: one entry an instance; several may name the same session.
            statistics: counts what happens here.
            max_queue_size: requests that may wait before further ones are refused, whatever their level.
            clock: the monotonic clock of deadlines and delays.
            levels: priority levels and their queue policies; None for one level without limits.
            preserve_ordering: answer in the order in which requests came.
            admission: refuses requests that would wait beyond their deadlines; None lets them wait.
        """
        super().__init__(
            key,
            layout=layout,
            sessions=sessions,
            statistics=statistics,
            max_queue_size=max_queue_size,
            clock=clock,
            preserve_ordering=preserve_ordering,
        )
        self._policy = policy
        self._queue = RequestQueue(levels)
        self._admission = admission
        self._lone_reasons: dict[int, BatchReason] = {}
        self.defers = not layout.ragged  # which looks at the elements before the batch is formed

    @property
    def queued(self) -> int:
        """Requests that wait for an instance."""
        return len(self._queue)

    def run_inline(self, pace: InlinePace) -> None:
        """Run lone requests on the event loop's thread while `pace` finds that their runs are short."""
        self._pace = pace

    def _start_at_once(self, pending: PendingRequest) -> bool:
        """Run a request alone if an instance is idle, nothing waits, and nothing may be waited for."""
        instances = self._instances
        if self._queue or not instances.idle or self._policy.max_queue_delay_ns or instances.gate is not None:
            return False
        instance = instances.idle[-1]
        reason = self._lone_reason(pending)
        self._dispatched_ns = pending.arrived_ns
        if (
            self._pace is not None
            and self._pace.inline
            and pending.batch_size == 1
            and pending.request.sources is None  # which take as long as they like
        ):
            self._run_here(instance, pending, reason, self._pace)
        else:
            self._start(instance, (pending,), reason)
        return True

    def _lone_reason(self, pending: PendingRequest) -> BatchReason:
        """Why the request would run if it were alone and nothing may be waited for."""
        reason = self._lone_reasons.get(pending.batch_size)
        if reason is None:
            decision = next_batch((pending,), pending.arrived_ns, self._policy)
            assert isinstance(decision, Run), "without a delay there is nothing to wait for"
            reason = self._lone_reasons[pending.batch_size] = decision.reason
        return reason

    def _must_look(self) -> bool:
        return bool(self._queue) or self._closing or self._instances.gate is not None

    def _accept(self, pending: PendingRequest) -> None:
        if self._queue.full_level(pending.request) is not None:
            # No word more: clients compare the text, and the limit stands in the model's config.
            raise self._full(pending.request)
        if self._admission is not None and self._admission.ready:
            self._check_deadline(self._admission, pending)
        pending.shape_key = self._layout.shape_key(pending.request)
        self._queue.push(pending)

    def _check_deadline(self, admission: Admission, pending: PendingRequest) -> None:
        timeout_ns = self._queue.timeout_ns(pending.request)
        if pending.deadline_ns is None and timeout_ns is None:
            return
        if self._instances.idle and not self._queue:
            return  # it runs at once, or joins what comes within the queue delay
        try:
            admission.check(
                self._queue.ahead(pending.request),
                pending.batch_size,
                deadline_ns=pending.deadline_ns,
                timeout_ns=timeout_ns,
                idle=len(self._instances.idle),
                running=self._instances.running.values(),
                now_ns=pending.arrived_ns,
            )
        except ResourceExhaustedError:
            self._statistics.record_refused(RefusalReason.DEADLINE)
            raise

    def _work(self, now_ns: int) -> int | None:
        for pending in self._queue.pop_timed_out(now_ns):
            self._leave(pending, UnavailableError("Request timeout expired"), FailureReason.REJECTED)
        until_ns = None
        while self._instances.idle:
            decision = next_batch(self._queue, now_ns, self._policy)
            if isinstance(decision, Run):
                instance = self._instances.next_idle()
                if instance is not None:
                    self._start(instance, self._queue.pop(decision.take), decision.reason)
                    continue
            if isinstance(decision, Wait):
                until_ns = decision.until_ns
            break
        return earliest(until_ns, self._queue.next_timeout_ns())

    def _withdraw(self, pending: PendingRequest) -> Iterable[PendingRequest]:
        self._queue.discard(pending)
        return ()

    def _clear(self) -> Iterable[PendingRequest]:
        return self._queue.clear()
