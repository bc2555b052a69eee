"""Admission: whether a request can still be answered in time, from what waits, what runs and what runs take.

A request that would only wait for its deadline is refused at the door: its caller can still go elsewhere.
The prediction errs on the side of letting in: batches are taken as packed without gaps, a batch that runs
longer than usual as nearly done, and what may overtake the request later is not known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from naiad.core.errors import ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.core.tensors import ModelKey

ENOUGH = 16
"""Executions that must have been measured before anything is refused."""

_UP, _DOWN = 1 / 8, 1 / 2
"""Weights of a measurement above and below the average: a model that is fast again is believed sooner."""

_OUTLIER = 4
"""A measurement counts as at most so many times the average, so that one hiccup refuses nobody."""


class Ahead(NamedTuple):
    """What leaves the queue before a request: so many requests, so many batch items in all."""

    requests: int
    items: int


class Running(Protocol):
    """A batch that an instance runs."""

    @property
    def items(self) -> int:
        """Its batch items."""
        ...

    @property
    def started_ns(self) -> int:
        """When it was started, on the monotonic clock."""
        ...


class ServiceTimes:
    """How long an instance takes for a batch, by its size: exponentially weighted averages.

    Sizes share an average between two powers of two. The estimate for a size is the least that the averages
    allow, taking a batch of twice the size to need at least as long and at most twice as long: so one size
    that was slow long ago is not believed against others that are fast now. What is larger than all that ran
    is taken to need no longer than those. It belongs to the event loop's thread.
    """

    def __init__(self) -> None:
        self.measured = 0
        self._averages: dict[int, tuple[int, float]] = {}  # by bucket: the last size, nanoseconds
        self._estimates: dict[int, float] = {}  # by size, since the last measurement
        self._largest = 0  # of the sizes that were measured last

    def __repr__(self) -> str:
        shown = {size: f"{ns / 1e6:.3f} ms" for size, ns in self._averages.values()}
        return f"<ServiceTimes measured={self.measured} {shown}>"

    def measure(self, items: int, ns: int) -> None:
        """One batch of so many items ran for so long."""
        self.measured += 1
        bucket = items.bit_length()
        known = self._averages.get(bucket)
        average = float(ns)
        if known is not None:
            average = known[1]
            weight = _DOWN if ns < average else _UP
            average += weight * (min(ns, _OUTLIER * average) - average)
        self._averages[bucket] = (items, average)
        self._largest = self._averages[max(self._averages)][0]
        self._estimates.clear()

    def measure_at_least(self, items: int, ns: int) -> None:
        """One batch of so many items ran for so long and was ended then, by callers that would not wait.

        Without it a model whose callers never wait for the end would never be known.
        """
        self.measure(items, max(ns, math.ceil(self.estimate_ns(items))))

    def estimate_ns(self, items: int) -> float:
        """What a batch of so many items takes at least; 0 before anything was measured."""
        known = self._estimates.get(items)
        if known is None:
            size = min(items, self._largest)
            bounds = (ns * max(1.0, size / measured) for measured, ns in self._averages.values())
            known = self._estimates[items] = min(bounds, default=0.0)
        return known

    def longest_ns(self) -> float:
        """What no estimate is above: that of the largest size, because a larger one is never told less."""
        return self.estimate_ns(self._largest)


class Prediction(NamedTuple):
    """How long a request will wait for an instance, and how long its batch will run, in nanoseconds."""

    wait_ns: float
    run_ns: float


def predict(
    ahead: Ahead,
    items: int,
    *,
    max_batch_size: int,
    idle: int,
    running: Iterable[Running],
    now_ns: int,
    times: ServiceTimes,
) -> Prediction:
    """What a request that comes now will have to wait for. Pure.

    Args:
        ahead: what leaves the queue before it.
        items: its own batch items.
        max_batch_size: batch items that are merged at most; 0 if each request runs alone.
        idle: instances that run nothing.
        running: what the others run.
        now_ns: the clock's time.
        times: what batches take.
    """
    free = [0.0] * idle
    for batch in running:
        free.append(max(0.0, times.estimate_ns(batch.items) - (now_ns - batch.started_ns)))
    free.sort()
    if max_batch_size:
        batches, rest = divmod(ahead.items, max_batch_size)
        size = max_batch_size
        # Where the queue fills batches, the request's own will be filled by those that come after it.
        own = max_batch_size if batches else min(rest + items, max_batch_size)
    else:
        batches, rest = ahead.requests, 0
        size = ahead.items // ahead.requests if ahead.requests else 1
        own = items
    run_ns = times.estimate_ns(own)
    if not free:
        return Prediction(0.0, run_ns)
    # Each instance takes its turn: no need to go through a thousand batches one by one.
    rounds, more = divmod(batches, len(free))
    each_ns = times.estimate_ns(size)
    free = [at_ns + each_ns * (rounds + (index < more)) for index, at_ns in enumerate(free)]
    if rest and rest + items > max_batch_size:
        first = free.index(min(free))
        free[first] += times.estimate_ns(rest)
    return Prediction(min(free), run_ns)


class Admission:
    """Refuses the requests of one model version that would wait too long. Used on the event loop's thread."""

    def __init__(self, key: ModelKey, *, max_batch_size: int) -> None:
        """Start without a measurement, which refuses nothing.

        Args:
            key: the model version, for the refusal.
            max_batch_size: batch items that are merged at most; 0 if each request runs alone.
        """
        self.times = ServiceTimes()
        self._key = key
        self._max_batch_size = max_batch_size

    @property
    def ready(self) -> bool:
        """Whether enough was measured to refuse anything."""
        return self.times.measured >= ENOUGH

    def check(
        self,
        ahead: Ahead,
        items: int,
        *,
        deadline_ns: int | None,
        timeout_ns: int | None,
        idle: int,
        running: Iterable[Running],
        now_ns: int,
    ) -> None:
        """Let a request in, or refuse it.

        A deadline that has passed already is not judged here: its timer tells it in its own words.

        Args:
            ahead: as for `predict`, like all that is not named here.
            items: its own batch items.
            deadline_ns: its caller's, on the monotonic clock.
            timeout_ns: how long its queue policy lets it wait before it rejects it.
            idle: instances that run nothing.
            running: what the others run.
            now_ns: the clock's time.

        Raises:
            ResourceExhaustedError: it would not be answered before `deadline_ns`, or wait beyond its queue
                timeout; the error says when another try may succeed.
        """
        if not self.ready or self._is_far(ahead, deadline_ns, timeout_ns, now_ns):
            return
        wait_ns, run_ns = predict(
            ahead,
            items,
            max_batch_size=self._max_batch_size,
            idle=idle,
            running=running,
            now_ns=now_ns,
            times=self.times,
        )
        if not wait_ns:
            return
        # Who waits for the answer needs the run too; who is only told to queue no longer than so does not.
        if timeout_ns is not None and wait_ns > timeout_ns:
            self._refuse(
                wait_ns, f", and its queue timeout is {timeout_ns / 1e6:.1f} ms", wait_ns - timeout_ns
            )
        if deadline_ns is not None and 0 < (left_ns := deadline_ns - now_ns) < wait_ns + run_ns:
            limit = f" and run for {run_ns / 1e6:.1f} ms, and its deadline is in {left_ns / 1e6:.1f} ms"
            self._refuse(wait_ns, limit, wait_ns + run_ns - left_ns)

    def _is_far(self, ahead: Ahead, deadline_ns: int | None, timeout_ns: int | None, now_ns: int) -> bool:
        """Whether all that is ahead could take turns on one instance in time, so that no more need be asked.

        Beside the full batches there are the one that runs, the rest of the queue and the request's own.
        """
        batches = ahead.items // self._max_batch_size if self._max_batch_size else ahead.requests
        most_ns = self.times.longest_ns() * (batches + 3)
        return (deadline_ns is None or deadline_ns - now_ns >= most_ns) and (
            timeout_ns is None or timeout_ns >= most_ns
        )

    def _refuse(self, wait_ns: float, limit: str, excess_ns: float) -> NoReturn:
        raise ResourceExhaustedError(
            f"a request for '{self._key}' would now wait about {wait_ns / 1e6:.1f} ms for an instance{limit} "
            "(--admission-control)",
            retry_after_ms=max(1, math.ceil(excess_ns / 1e6)),
        )
