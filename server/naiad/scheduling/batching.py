"""The batch decision: a pure function of the queue and the time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable


class BatchReason(Enum):
    """Why a batch was formed; the value is what a caller reads."""

    LONE = "lone"  # the model does not batch
    PREFERRED = "preferred"  # a preferred batch size was reached
    FULL = "full"  # nothing more may be added, or only beyond every preferred size
    MISFIT = "misfit"  # the next request has another shape, or is too large for what is left
    DELAY = "delay"  # the oldest request has waited its max queue delay
    RETRY = "retry"  # alone, after the batch that it was in had failed
    IDLE = "idle"  # an instance was free and no delay is configured
    UTILIZATION = "utilization"  # as many sequences as asked for have a request


class Queued(Protocol):
    """What the decision needs to know of a waiting request."""

    batch_size: int
    enqueued_ns: int
    shape_key: Hashable


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How requests of one model version may be merged.

    `max_batch_size` counts batch items; 0 means that requests are never merged. `preferred` are the
    preferred batch sizes, ascending. `max_queue_delay_ns` is how long the oldest request may wait for
    company; 0 means not at all.
    """

    max_batch_size: int = 0
    preferred: tuple[int, ...] = ()
    max_queue_delay_ns: int = 0


class Run(NamedTuple):
    """Run the first `take` requests now."""

    take: int
    reason: BatchReason


class Wait(NamedTuple):
    """Form no batch before `until_ns`, unless the queue changes."""

    until_ns: int


Decision = Run | Wait | None
"""None: the queue is empty."""


class _Prefix(NamedTuple):
    """What a scan from the head found: `taken` requests of `size` batch items, the oldest since `oldest_ns`.

    `preferred` is how many make the largest preferred size that was met, 0 for none. `cut` is how many there
    were when the next one would have passed every preferred size and none was met. `misfit` says that the
    next one does not fit at all.
    """

    taken: int
    size: int
    preferred: int
    cut: int
    oldest_ns: int
    misfit: bool


def next_batch(queue: Iterable[Queued], now_ns: int, policy: BatchPolicy) -> Decision:
    """Decide what a free instance should run.

    Triton's rules (dynamic batcher): requests leave in order and are never split; the first one that
    does not fit, by size or by shape, ends the batch and sends it; the longest prefix that makes a preferred
    size goes at once while the oldest request's delay lasts, and so does what can reach none any more; after
    the delay everything that fits goes.

    Args:
        queue: waiting requests in the order in which they leave, which is not always that of their coming;
            only as many are looked at as fit one batch.
        now_ns: the clock's time.
        policy: the model version's.
    """
    head = next(iter(queue), None)
    if head is None:
        return None
    if policy.max_batch_size < 1:
        return Run(1, BatchReason.LONE)
    prefix = _scan(queue, policy)
    waited_ns = now_ns - prefix.oldest_ns
    delay_over = 0 < policy.max_queue_delay_ns <= waited_ns
    if not delay_over:
        if prefix.preferred:
            return Run(prefix.preferred, BatchReason.PREFERRED)
        if prefix.cut:
            return Run(prefix.cut, BatchReason.MISFIT)
    reason = _reason_to_run(prefix, policy, delay_over=delay_over)
    if reason is None:
        return Wait(prefix.oldest_ns + policy.max_queue_delay_ns)
    return Run(prefix.taken, reason)


def _reason_to_run(prefix: _Prefix, policy: BatchPolicy, *, delay_over: bool) -> BatchReason | None:
    if prefix.size >= policy.max_batch_size:
        return BatchReason.FULL
    if prefix.misfit:
        return BatchReason.MISFIT
    if delay_over:
        return BatchReason.DELAY
    if policy.max_queue_delay_ns == 0:
        return BatchReason.IDLE
    return BatchReason.FULL if prefix.size >= _largest_preferred(policy) else None


def _scan(queue: Iterable[Queued], policy: BatchPolicy) -> _Prefix:
    largest_preferred = _largest_preferred(policy)
    taken = size = preferred = cut = oldest_ns = 0
    shape_key: Hashable = None
    for item in queue:
        if taken:
            if size + item.batch_size > largest_preferred and not (preferred or cut):
                cut = taken
            if size + item.batch_size > policy.max_batch_size or item.shape_key != shape_key:
                return _Prefix(taken, size, preferred, cut, oldest_ns, misfit=True)
        else:
            shape_key, oldest_ns = item.shape_key, item.enqueued_ns
        oldest_ns = min(oldest_ns, item.enqueued_ns)
        taken += 1
        size += item.batch_size
        if size in policy.preferred:
            preferred = taken
        if size >= policy.max_batch_size:
            break
    return _Prefix(taken, size, preferred, cut, oldest_ns, misfit=False)


def _largest_preferred(policy: BatchPolicy) -> int:
    """The size beyond which nothing waits for more, in batch items."""
    return policy.preferred[-1] if policy.preferred else policy.max_batch_size
