"""The oldest strategy: requests of different sequences are merged as they come, one of each at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.sequence_config import OldestStrategy
from naiad.scheduling.batching import BatchPolicy
from naiad.scheduling.deadlines import earliest
from naiad.scheduling.ragged_scheduler import RaggedQueue
from naiad.scheduling.scheduler import BatchScheduler
from naiad.scheduling.sequence.desk import SequenceDesk
from naiad.scheduling.tensors import BatchLayout
from naiad.telemetry.statistics import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.core.tensors import ModelKey
    from naiad.runtime.session import Session
    from naiad.scheduling.base import Outcome
    from naiad.scheduling.queue import PendingRequest
    from naiad.telemetry.statistics import VersionStatistics


class OldestScheduler(BatchScheduler):
    """A dynamic batcher that candidate sequences feed; the others wait in the backlog."""

    def __init__(
        self,
        key: ModelKey,
        *,
        config: ModelConfig,
        sessions: Sequence[tuple[str, Session]],
        statistics: VersionStatistics,
        max_queue_size: int,
        clock: Clock,
        max_ragged_batch_bytes: int,
    ) -> None:
        """Start one instance thread for each (name, session); see `BatchScheduler`.

        Args:
            key: the model version that answers are signed with.
            config: complete, with a `sequence_batching` block.
            sessions: one entry an instance.
            statistics: counts what happens here.
            max_queue_size: requests that may wait, those in the backlog included.
            clock: the monotonic clock of deadlines, delays and idle sequences.
            max_ragged_batch_bytes: of all ragged inputs of a batch; a request alone may have more.
        """
        assert config.sequence_batching is not None
        strategy = config.sequence_batching.strategy
        assert isinstance(strategy, OldestStrategy)
        layout = BatchLayout(config)
        super().__init__(
            key,
            policy=oldest_policy(config, strategy),
            layout=layout,
            sessions=sessions,
            statistics=statistics,
            max_queue_size=max_queue_size,
            clock=clock,
            preserve_ordering=strategy.preserve_ordering,
        )
        if layout.ragged.inputs:
            self._queue = RaggedQueue(None, layout.ragged, max_ragged_batch_bytes)
        candidates = strategy.max_candidate_sequences or max(1, config.max_batch_size)
        self.defers = False  # what a sequence is fed is made of a request's values
        self._desk = SequenceDesk(config, layout, groups=1, rows=candidates * len(sessions))

    @property
    def queued(self) -> int:
        """Requests that wait for an instance, behind their sequence's other ones or for a slot."""
        return super().queued + self._desk.table.waiting

    def _start_at_once(self, pending: PendingRequest) -> bool:
        """Never: its sequence decides when it may run."""
        del pending
        return False

    def _must_look(self) -> bool:
        return True

    def _accept(self, pending: PendingRequest) -> None:
        self._desk.accept(pending)

    def _work(self, now_ns: int) -> int | None:
        for pending, error in self._desk.sweep(now_ns):
            self._fail(pending, error, FailureReason.REJECTED)
        table = self._desk.table
        for sequence in list(table.ready[0].values()):
            pending = self._desk.prepare(sequence)
            table.take(sequence)
            pending.enqueued_ns = now_ns
            self._queue.push(pending)
        return earliest(super()._work(now_ns), table.next_ns())

    def _withdraw(self, pending: PendingRequest) -> Iterable[PendingRequest]:
        super()._withdraw(pending)
        return self._desk.table.withdraw(pending, self._clock.now_ns())

    def _clear(self) -> Iterable[PendingRequest]:
        return (*super()._clear(), *self._desk.table.clear())

    def _ran(self, pending: PendingRequest, outcome: Outcome) -> Outcome:
        return self._desk.check_out(pending, outcome, self._clock.now_ns())

    def _reruns(self, pending: PendingRequest) -> bool:
        """Always: the sequence's next request needs its states, whoever waits for this one."""
        del pending
        return True


def oldest_policy(config: ModelConfig, strategy: OldestStrategy) -> BatchPolicy:
    """How requests of different sequences are merged."""
    if config.max_batch_size < 1:
        return BatchPolicy()
    return BatchPolicy(
        max_batch_size=config.max_batch_size,
        preferred=tuple(sorted(strategy.preferred_batch_sizes)) or (config.max_batch_size,),
        max_queue_delay_ns=strategy.max_queue_delay_us * 1_000,
    )
