"""The direct strategy's decision, which rows of an instance run now: a function of (state, now). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from naiad.scheduling.batching import BatchReason, Wait

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.scheduling.batching import Queued


@dataclass(frozen=True, slots=True)
class RowPolicy:
    """How long an instance waits for the requests of more sequences.

    `rows` is how many sequences have a slot on it; it waits up to `max_queue_delay_ns` until
    `minimum_utilization` (0..1) of them have a request. 0 of either: not at all.
    """

    rows: int
    max_queue_delay_ns: int = 0
    minimum_utilization: float = 0.0


class RunRows(NamedTuple):
    """Run the requests of these rows now, ascending; rows between them stand empty."""

    rows: tuple[int, ...]
    reason: BatchReason


def next_rows(ready: Mapping[int, Queued], now_ns: int, policy: RowPolicy) -> RunRows | Wait | None:
    """Decide what an idle instance should run.

    Requests of different shapes do not share a run: those shaped like the oldest go, so that none waits for
    ever.

    Args:
        ready: the next request of each row that has one.
        now_ns: the clock's time.
        policy: the model version's.

    Returns:
        None if no row has a request.
    """
    if not ready:
        return None
    oldest = min(ready.values(), key=lambda item: item.enqueued_ns)
    rows = tuple(sorted(row for row, item in ready.items() if item.shape_key == oldest.shape_key))
    if not (policy.max_queue_delay_ns and policy.minimum_utilization):
        return RunRows(rows, BatchReason.IDLE)
    if len(ready) / policy.rows >= policy.minimum_utilization:
        return RunRows(rows, BatchReason.UTILIZATION)
    until_ns = oldest.enqueued_ns + policy.max_queue_delay_ns
    return RunRows(rows, BatchReason.DELAY) if until_ns <= now_ns else Wait(until_ns)
