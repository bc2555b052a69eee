"""Where requests of sequences are checked in and out: the table and the tensors, for either strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from naiad.core.errors import UnavailableError
from naiad.scheduling.sequence.inputs import SequenceInputs
from naiad.scheduling.sequence.table import SequenceTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array
    from naiad.scheduling.queue import PendingRequest
    from naiad.scheduling.sequence.table import LiveSequence
    from naiad.scheduling.tensors import BatchLayout

log = structlog.get_logger(__name__)


class TimedOut(NamedTuple):
    """A request that waited too long for a slot, and what its caller is told."""

    pending: PendingRequest
    error: UnavailableError


class SequenceDesk:
    """Checks requests in, makes the next of a sequence ready to run, checks it out when it has run."""

    def __init__(self, config: ModelConfig, layout: BatchLayout, *, groups: int, rows: int) -> None:
        """Start without sequences.

        Args:
            config: complete, with a `sequence_batching` block.
            layout: tells which requests share a batch.
            groups: groups of slots.
            rows: slots of each group.
        """
        assert config.sequence_batching is not None
        self.inputs = SequenceInputs(config)
        self.table = SequenceTable(
            model=config.name,
            groups=groups,
            rows=rows,
            max_idle_ns=config.sequence_batching.max_sequence_idle_us * 1_000,
        )
        self._model = config.name
        self._layout = layout

    def accept(self, pending: PendingRequest) -> None:
        """Let the request wait for its turn.

        Raises:
            InvalidArgumentError: it names no sequence, one that was not started, or has another batch size.
        """
        self.inputs.check(pending.request)
        if not self.table.admit(pending, pending.arrived_ns):
            log.info(
                "sequence restarted before its end",
                model=self._model,
                sequence=pending.request.sequence_id,
                who="client owner",
            )

    def sweep(self, now_ns: int) -> Iterator[TimedOut]:
        """End idle sequences; yield the requests that have waited too long in the backlog."""
        for pending in self.table.pop_timed_out(now_ns):
            yield TimedOut(
                pending, UnavailableError("timeout of the corresponding sequence has been expired")
            )
        for sequence in self.table.pop_idle(now_ns):
            log.debug("sequence ended because it was idle", model=self._model, sequence=sequence.id)

    def prepare(self, sequence: LiveSequence) -> PendingRequest:
        """The next request of a ready sequence, with its control tensors and states."""
        pending = sequence.waiting[0]
        if pending.feed is pending.request:  # not yet; while it waits its states cannot change
            pending.feed = self.inputs.prepare(pending.request, sequence)
            pending.shape_key = self._layout.shape_key(pending.feed)
        return pending

    def check_out(
        self, pending: PendingRequest, outcome: dict[str, Array] | BaseException, now_ns: int
    ) -> dict[str, Array] | BaseException:
        """Keep the states of a request that has run, and let its sequence go on.

        A failed run leaves the states as they were.

        Returns:
            the outputs that the caller asked for, or the error.
        """
        sequence = pending.sequence
        assert sequence is not None
        if not isinstance(outcome, BaseException):
            outcome = self.inputs.absorb(pending.request, sequence, outcome)
        self.table.finish(sequence, now_ns)
        return outcome
