"""Counters of one loaded version, counted when Triton counts them. They belong to the loop's thread.

Nothing here knows Prometheus: requests touch plain integers and lists of them, which a scrape reads.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from naiad.telemetry.quantiles import SlidingQuantiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import InferTimes

LATENCY_BOUNDS_NS = tuple(
    mantissa * 10**exponent // 10
    for exponent in range(5, 11)
    for mantissa in ((10, 25, 50) if exponent < 10 else (10,))
)
"""Upper bounds of the latency histograms, in nanoseconds: 0.1 ms to 10 s in steps of 1, 2.5 and 5."""


class FailureReason(Enum):
    """Why an accepted request failed; the value is the label of the metric."""

    REJECTED = "REJECTED"  # the queue policy's timeout
    CANCELED = "CANCELED"  # the caller went away
    BACKEND = "BACKEND"  # the run failed
    OTHER = "OTHER"


class RefusalReason(Enum):
    """Why a request was not accepted, which Triton does not count as a failure."""

    QUEUE_FULL = "queue_full"
    STOPPING = "stopping"
    DEADLINE = "deadline"  # it would have waited beyond its deadline or its queue timeout


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class BatchStatistics:
    """Executions of one batch size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class CacheStatistics:
    """Lookups of a version's response cache; a miss includes the insertion."""

    hit: Duration = field(default_factory=Duration)
    miss: Duration = field(default_factory=Duration)


class LatencyHistogram:
    """A histogram with bounds of its own: `counts[i]` of at most `bounds_ns[i]`, the last of more."""

    __slots__ = ("bounds_ns", "counts", "ns")

    def __init__(self, bounds_ns: Sequence[int]) -> None:
        self.bounds_ns = tuple(bounds_ns)
        self.counts = [0] * (len(self.bounds_ns) + 1)
        self.ns = 0

    def add(self, ns: int) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds_ns, ns)] += 1
        self.ns += ns


class LatencySummaries:
    """The quantiles of a version's latencies over the last minute; kept only when they are asked for."""

    __slots__ = ("compute_infer", "compute_input", "compute_output", "queue", "request")

    def __init__(self) -> None:
        self.request = SlidingQuantiles()
        self.queue = SlidingQuantiles()
        self.compute_input = SlidingQuantiles()
        self.compute_infer = SlidingQuantiles()
        self.compute_output = SlidingQuantiles()

    def add(self, total_ns: int, queue_ns: int, times: InferTimes) -> None:
        """Count one answered request, at the time at which it was answered."""
        now_ns = times.compute_end_ns
        self.request.add(total_ns, now_ns)
        self.queue.add(queue_ns, now_ns)
        self.compute_input.add(times.compute_input_ns, now_ns)
        self.compute_infer.add(times.infer_ns, now_ns)
        self.compute_output.add(times.compute_output_ns, now_ns)


class VersionStatistics:
    """What `ModelStatistics` and `/metrics` answer for one version; a reload starts anew.

    The five `…_counts` are histograms over `LATENCY_BOUNDS_NS`, one count a bucket and a last one for what is
    longer: of answered requests (`request`, `queue`) and of executions (`compute_…`), where a batch of eight
    counts once. `batch_reasons` counts executions by why their batch was formed, `inline_runs` those on the
    event loop's thread, `padding_rows` the rows of their batches that no request filled. `first_response` and
    `summaries` are None unless they are asked for, `cache` unless whoever gave the version a response cache
    has set it.
    """

    __slots__ = (
        "_compute_infer_ns",
        "_compute_input_ns",
        "_compute_output_ns",
        "_computed_count",
        "_queue_ns",
        "_success_count",
        "_success_ns",
        "batch_reasons",
        "batches",
        "cache",
        "compute_infer_counts",
        "compute_input_counts",
        "compute_output_counts",
        "execution_count",
        "fail",
        "failures",
        "first_response",
        "inference_count",
        "inline_runs",
        "last_inference_ms",
        "padding_rows",
        "queue_counts",
        "refusals",
        "request_counts",
        "summaries",
        "terminated_count",
        "wasted_items",
        "wasted_ns",
    )

    def __init__(
        self, *, first_response_bounds_ns: Sequence[int] | None = None, summaries: bool = False
    ) -> None:
        """Start at zero.

        Args:
            first_response_bounds_ns: ascending bounds of Triton's first-response histogram; None for none.
            summaries: keep the quantiles of the last minute.
        """
        self.last_inference_ms = 0
        self.inference_count = 0
        self.execution_count = 0
        self.fail = Duration()
        self.batches: dict[int, BatchStatistics] = {}
        self.batch_reasons: dict[str, int] = {}
        self.failures = dict.fromkeys(FailureReason, 0)
        self.refusals = dict.fromkeys(RefusalReason, 0)
        self.request_counts = _counts()
        self.queue_counts = _counts()
        self.compute_input_counts = _counts()
        self.compute_infer_counts = _counts()
        self.compute_output_counts = _counts()
        bounds = first_response_bounds_ns
        self.first_response = None if bounds is None else LatencyHistogram(bounds)
        self.summaries = LatencySummaries() if summaries else None
        self.cache: CacheStatistics | None = None
        self.terminated_count = 0
        self.padding_rows = 0
        self.inline_runs = 0
        self.wasted_items = 0
        self.wasted_ns = 0
        self._success_count = 0
        self._success_ns = 0
        self._queue_ns = 0
        self._computed_count = 0
        self._compute_input_ns = 0
        self._compute_infer_ns = 0
        self._compute_output_ns = 0

    def __repr__(self) -> str:
        return f"<VersionStatistics success={self._success_count} fail={self.fail.count}>"

    @property
    def success(self) -> Duration:
        """Answered requests, those answered from the cache included, from end to end."""
        return Duration(self._success_count, self._success_ns)

    @property
    def queue(self) -> Duration:
        """The time that answered requests waited."""
        return Duration(self._success_count, self._queue_ns)

    @property
    def compute_input(self) -> Duration:
        """The time spent placing inputs, once for each request of a batch."""
        return Duration(self._computed_count, self._compute_input_ns)

    @property
    def compute_infer(self) -> Duration:
        """The time spent in the session, once for each request of a batch."""
        return Duration(self._computed_count, self._compute_infer_ns)

    @property
    def compute_output(self) -> Duration:
        """The time spent splitting outputs, once for each request of a batch."""
        return Duration(self._computed_count, self._compute_output_ns)

    def record_execution(
        self, batch_size: int, input_ns: int, infer_ns: int, output_ns: int, reason: str = ""
    ) -> None:
        """One batch ran; `reason` is why it was formed."""
        self.execution_count += 1
        if reason:
            self.batch_reasons[reason] = self.batch_reasons.get(reason, 0) + 1
        row = self.batches.get(batch_size)
        if row is None:
            row = self.batches[batch_size] = BatchStatistics()
        row.compute_input.add(input_ns)
        row.compute_infer.add(infer_ns)
        row.compute_output.add(output_ns)
        self.compute_input_counts[bisect_left(LATENCY_BOUNDS_NS, input_ns)] += 1
        self.compute_infer_counts[bisect_left(LATENCY_BOUNDS_NS, infer_ns)] += 1
        self.compute_output_counts[bisect_left(LATENCY_BOUNDS_NS, output_ns)] += 1

    def record_success(self, times: InferTimes, batch_size: int) -> None:
        """One request was run and answered; `batch_size` is its own."""
        # Every request comes here: the phases are told apart inline, because four properties cost 0.5 us.
        queued, start = times.queued_ns, times.compute_start_ns
        infer, infer_end, end = times.infer_start_ns, times.infer_end_ns, times.compute_end_ns
        self._computed_count += 1
        self.inference_count += batch_size
        if start <= infer <= infer_end <= end:
            self._compute_input_ns += infer - start
            self._compute_infer_ns += infer_end - infer
            self._compute_output_ns += end - infer_end
        else:  # a phase that was never reached
            self._compute_input_ns += times.compute_input_ns
            self._compute_infer_ns += times.infer_ns
            self._compute_output_ns += times.compute_output_ns
        self._answered(end - queued, start - queued if start > queued else 0)
        if self.summaries is not None:
            self.summaries.add(end - queued, times.queue_ns, times)

    def record_composed(
        self,
        times: InferTimes,
        batch_size: int,
        reason: str,
        *,
        input_ns: int,
        infer_ns: int,
        output_ns: int,
    ) -> None:
        """One request of an ensemble was answered: one execution, its phases the sums over its steps.

        It waited nowhere itself, as in Triton: its steps' waiting is in the statistics of their models.
        """
        self.record_execution(batch_size, input_ns, infer_ns, output_ns, reason)
        self._computed_count += 1
        self.inference_count += batch_size
        self._compute_input_ns += input_ns
        self._compute_infer_ns += infer_ns
        self._compute_output_ns += output_ns
        total_ns = times.compute_end_ns - times.queued_ns
        self._answered(total_ns, 0)
        if self.summaries is not None:
            self.summaries.add(total_ns, 0, times)

    def record_cache_hit(
        self, total_ns: int, queue_ns: int, lookup_ns: int, now_ns: int | None = None
    ) -> None:
        """One request was answered from the response cache, without a run; at `now_ns`, for the summaries."""
        assert self.cache is not None, "a version without a response cache"
        self.cache.hit.add(lookup_ns)
        self._answered(total_ns, queue_ns)
        if self.summaries is not None and now_ns is not None:
            self.summaries.request.add(total_ns, now_ns)
            self.summaries.queue.add(queue_ns, now_ns)

    def record_cache_miss(self, ns: int) -> None:
        """The response cache did not have an answer; `ns` is its lookup and its insertion."""
        assert self.cache is not None, "a version without a response cache"
        self.cache.miss.add(ns)

    def record_failure(self, total_ns: int, reason: FailureReason) -> None:
        """One accepted request failed: the run, its deadline, or its caller's cancellation."""
        self.last_inference_ms = time.time_ns() // 1_000_000
        self.fail.add(total_ns)
        self.failures[reason] += 1

    def record_wasted(self, batch_items: int, ns: int) -> None:
        """Some of a batch was computed that nobody waited for any more; `ns` is its share of the time."""
        self.wasted_items += batch_items
        self.wasted_ns += ns

    def record_terminated(self) -> None:
        """One run was ended before its time, because all its callers had left."""
        self.terminated_count += 1

    def record_refused(self, reason: RefusalReason) -> None:
        """One request was not accepted."""
        self.refusals[reason] += 1

    def _answered(self, total_ns: int, queue_ns: int) -> None:
        self.last_inference_ms = time.time_ns() // 1_000_000
        self._success_count += 1
        self._success_ns += total_ns
        self._queue_ns += queue_ns
        self.request_counts[bisect_left(LATENCY_BOUNDS_NS, total_ns)] += 1
        self.queue_counts[bisect_left(LATENCY_BOUNDS_NS, queue_ns)] += 1
        if self.first_response is not None:
            self.first_response.add(total_ns)


def _counts() -> list[int]:
    return [0] * (len(LATENCY_BOUNDS_NS) + 1)
