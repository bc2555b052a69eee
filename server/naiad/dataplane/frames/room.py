"""How many frames of streams a model version should have at work at once. Pure.

Too few, and an instance or a decode thread stands idle, or batches stay small. Too many, and frames wait
decoded in front of the instances, grow old there, and cannot be superseded any more: that wait is latency and
brings nothing. So the room is the least that keeps the version busy, by what its runs are measured to take:

    room = running + ahead
    running = instances x batch
    ahead   = what must be under way so that the next batches are there when these end

`batch` is the smallest size that gives nearly the throughput of the best one. Where a batch of eight takes
eight times as long as one, as mostly on a CPU, that is one; where it takes hardly longer, as on a GPU, it is
the largest that the model takes. Sizes that have not run yet are judged by the line through those that have,
up to twice as large; where only one has run, two are let wait for one instance.

`ahead` is nothing where preparing a frame and handing it over take little beside running it: an instance that
stands idle for that short costs less than a frame that waits for a whole run. Else it is as many batches as
must be prepared at once to have one ready when a run ends, and never more than there are rows or threads to
work on them: by Little's law more could only wait.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ENOUGH = 0.75
"""The part of the best throughput for which a smaller batch is preferred.

Not more: a large batch, while which one instance alone is busy, is measured a tenth too good.
"""

NEGLIGIBLE = 0.1
"""The part of a run's time up to which an instance may stand idle while its next frame is prepared."""

HAND_OVER_NS = 1_000_000
"""What passes between two runs of an instance beside preparing: it wakes the event loop, which answers one
frame, begins another one and wakes the instance, while others want its interpreter and its CPU."""


class Capacity(NamedTuple):
    """What a model version has: instances, and the items of its largest batch, 1 without batches.

    A batch that is not full waits `delay_ns` for others; `threads` prepare frames, for all models.
    """

    instances: int
    max_batch: int
    delay_ns: int
    threads: int


class Cost(NamedTuple):
    """What a frame took: the items of the batch it ran in, the run's nanoseconds, and those of all else."""

    items: int
    run_ns: int
    other_ns: int


def best_batch(capacity: Capacity, largest: int, run_ns: Callable[[int], float]) -> int:
    """The smallest batch size that gives nearly the throughput of the best one.

    Args:
        capacity: of the version.
        largest: the largest size that has been measured.
        run_ns: what a batch of so many items takes.
    """
    most = min(capacity.max_batch, 2 * largest)
    sizes = [1 << power for power in range(most.bit_length()) if 1 << power < most] + [most]

    def rate(size: int) -> float:
        delay_ns = capacity.delay_ns if size < capacity.max_batch else 0
        return size / max(1.0, run_ns(size) + delay_ns)

    enough = ENOUGH * max(map(rate, sizes))
    return next(size for size in sizes if rate(size) >= enough)


def room(capacity: Capacity, batch: int, run_ns: float, other_ns: float) -> int:
    """How many frames should be at work at once.

    Args:
        capacity: of the version.
        batch: the size at which it runs well.
        run_ns: what a run of that size takes.
        other_ns: what a frame takes beside it: decoding, resizing, reading the outputs.
    """
    running = capacity.instances * batch
    prepared_ns = HAND_OVER_NS + other_ns * math.ceil(batch / capacity.threads)
    turns = prepared_ns / max(1.0, run_ns)
    if batch == 1 and turns < NEGLIGIBLE:
        return running
    # A batch fills while another runs, or it is never full.
    return running + min(max(running, capacity.threads), running * max(1, math.ceil(turns)))
