"""The direct strategy: a sequence keeps an instance and a row of its batches for as long as it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.sequence_config import DirectStrategy
from naiad.scheduling.base import SchedulerBase
from naiad.scheduling.batching import Wait
from naiad.scheduling.deadlines import earliest
from naiad.scheduling.sequence.desk import SequenceDesk
from naiad.scheduling.sequence.rows import RowPolicy, next_rows
from naiad.scheduling.tensors import BatchLayout
from naiad.telemetry.statistics import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.core.tensors import InferRequest, ModelKey
    from naiad.runtime.session import Session
    from naiad.scheduling.base import Outcome
    from naiad.scheduling.queue import PendingRequest
    from naiad.scheduling.sequence.rows import RunRows
    from naiad.telemetry.statistics import VersionStatistics


class DirectScheduler(SchedulerBase):
    """Each instance runs one batch at a time: a row a slot, empty where its sequence has no request."""

    def __init__(
        self,
        key: ModelKey,
        *,
        config: ModelConfig,
        sessions: Sequence[tuple[str, Session]],
        statistics: VersionStatistics,
        max_queue_size: int,
        clock: Clock,
    ) -> None:
        """Start one instance thread for each (name, session).

        Args:
            key: the model version that answers are signed with.
            config: complete, with a `sequence_batching` block.
            sessions: one entry an instance.
            statistics: counts what happens here.
            max_queue_size: requests that may wait, those in the backlog included.
            clock: the monotonic clock of deadlines, delays and idle sequences.
        """
        assert config.sequence_batching is not None
        strategy = config.sequence_batching.strategy
        assert isinstance(strategy, DirectStrategy)
        layout = BatchLayout(config)
        super().__init__(
            key,
            layout=layout,
            sessions=sessions,
            statistics=statistics,
            max_queue_size=max_queue_size,
            clock=clock,
        )
        rows = max(1, config.max_batch_size)
        self._policy = RowPolicy(rows, strategy.max_queue_delay_us * 1_000, strategy.minimum_slot_utilization)
        self._desk = SequenceDesk(config, layout, groups=len(sessions), rows=rows)

    @property
    def queued(self) -> int:
        """Requests that wait for an instance, behind their sequence's other ones or for a slot."""
        return self._desk.table.waiting

    def _accept(self, pending: PendingRequest) -> None:
        self._desk.accept(pending)

    def _work(self, now_ns: int) -> int | None:
        for pending, error in self._desk.sweep(now_ns):
            self._fail(pending, error, FailureReason.REJECTED)
        until_ns = None
        for group, instance in enumerate(self._instances):
            ready = self._desk.table.ready[group]
            if instance.busy or not ready:
                continue
            heads = {row: self._desk.prepare(sequence) for row, sequence in ready.items()}
            decision = next_rows(heads, now_ns, self._policy)
            if isinstance(decision, Wait):
                until_ns = earliest(until_ns, decision.until_ns)
            elif decision is not None and self._instances.may_start(instance):
                self._start(instance, self._rows(group, heads, decision), decision.reason)
        return earliest(until_ns, self._desk.table.next_ns())

    def _rows(
        self, group: int, heads: dict[int, PendingRequest], decision: RunRows
    ) -> list[PendingRequest | InferRequest]:
        """The batch from row 0 to the last one that runs."""
        table = self._desk.table
        empty = self._desk.inputs.empty_row(heads[decision.rows[0]].feed)
        rows: list[PendingRequest | InferRequest] = [empty] * (decision.rows[-1] + 1)
        for row in decision.rows:
            rows[row] = table.take(table.ready[group][row])
        return rows

    def _withdraw(self, pending: PendingRequest) -> Iterable[PendingRequest]:
        return self._desk.table.withdraw(pending, self._clock.now_ns())

    def _clear(self) -> Iterable[PendingRequest]:
        return self._desk.table.clear()

    def _ran(self, pending: PendingRequest, outcome: Outcome) -> Outcome:
        return self._desk.check_out(pending, outcome, self._clock.now_ns())

    def _reruns(self, pending: PendingRequest) -> bool:
        """Always: the sequence's next request needs its states, whoever waits for this one."""
        del pending
        return True
