"""What each kind of request counts, and where."""

from __future__ import annotations

import pytest

from naiad.core.tensors import InferTimes
from naiad.telemetry.statistics import (
    LATENCY_BOUNDS_NS,
    CacheStatistics,
    FailureReason,
    LatencyHistogram,
    RefusalReason,
    VersionStatistics,
)

MS = 1_000_000
TIMES = InferTimes(100 * MS, 102 * MS, 103 * MS, 107 * MS, 108 * MS)
"""Queued for 2 ms, placed in 1, run in 4, split in 1: 8 in all."""


def test_an_answered_request_counts_its_phases_and_its_batch_items() -> None:
    counted = VersionStatistics()
    counted.record_success(TIMES, 3)
    counted.record_success(TIMES, 1)
    assert (counted.inference_count, counted.execution_count) == (4, 0)
    phases = (counted.success, counted.queue, counted.compute_input, counted.compute_infer)
    assert [phase.ns // MS for phase in (*phases, counted.compute_output)] == [16, 4, 2, 8, 2]
    assert {phase.count for phase in (*phases, counted.compute_output)} == {2}
    assert counted.last_inference_ms > 1_600_000_000_000


def test_a_phase_that_was_never_reached_takes_no_time() -> None:
    counted = VersionStatistics()
    counted.record_success(InferTimes(queued_ns=10, compute_end_ns=15), 1)
    assert counted.success.ns == 5
    assert (counted.queue.ns, counted.compute_input.ns, counted.compute_infer.ns) == (0, 0, 0)


def test_an_execution_counts_once_whatever_its_size() -> None:
    counted = VersionStatistics()
    counted.record_execution(8, 1 * MS, 4 * MS, 2 * MS)
    assert counted.execution_count == 1
    row = counted.batches[8]
    assert (row.compute_input.ns, row.compute_infer.ns, row.compute_output.ns) == (1 * MS, 4 * MS, 2 * MS)
    assert sum(counted.compute_infer_counts) == 1
    assert counted.compute_infer_counts[LATENCY_BOUNDS_NS.index(5 * MS)] == 1


@pytest.mark.parametrize(
    ("ns", "index"),
    [(0, 0), (LATENCY_BOUNDS_NS[0], 0), (LATENCY_BOUNDS_NS[0] + 1, 1), (LATENCY_BOUNDS_NS[-1] + 1, -1)],
)
def test_a_bound_belongs_to_the_bucket_below_it(ns: int, index: int) -> None:
    """Prometheus' buckets are "less than or equal"."""
    counted = VersionStatistics()
    counted.record_success(InferTimes(0, ns, ns, ns, ns), 1)
    assert counted.request_counts[index] == counted.queue_counts[index] == 1
    histogram = LatencyHistogram(LATENCY_BOUNDS_NS)
    histogram.add(ns)
    assert (histogram.counts[index], histogram.ns) == (1, ns)


def test_the_bounds_are_0_1_ms_to_10_s() -> None:
    assert [bound / MS for bound in LATENCY_BOUNDS_NS][:4] == [0.1, 0.25, 0.5, 1]
    assert LATENCY_BOUNDS_NS[-1] == 10_000 * MS
    assert list(LATENCY_BOUNDS_NS) == sorted(set(LATENCY_BOUNDS_NS))


def test_a_failure_is_no_success_and_a_refusal_neither() -> None:
    counted = VersionStatistics()
    counted.record_failure(7 * MS, FailureReason.BACKEND)
    counted.record_refused(RefusalReason.QUEUE_FULL)
    assert (counted.fail.count, counted.fail.ns, counted.success.count) == (1, 7 * MS, 0)
    assert counted.failures[FailureReason.BACKEND] == 1
    assert counted.refusals == {
        RefusalReason.QUEUE_FULL: 1,
        RefusalReason.STOPPING: 0,
        RefusalReason.DEADLINE: 0,
    }


def test_a_cached_answer_succeeds_without_a_run() -> None:
    """Triton: success and queue count it, the compute phases and the inferences do not."""
    counted = VersionStatistics()
    counted.cache = CacheStatistics()
    counted.record_success(TIMES, 1)
    counted.record_cache_miss(3 * MS)
    counted.record_cache_hit(total_ns=2 * MS, queue_ns=0, lookup_ns=1 * MS)
    assert (counted.success.count, counted.queue.count, counted.compute_infer.count) == (2, 2, 1)
    assert counted.inference_count == 1
    assert (counted.cache.hit.ns, counted.cache.miss.ns) == (1 * MS, 3 * MS)


def test_histogram_and_summaries_are_kept_only_when_asked_for() -> None:
    plain = VersionStatistics()
    assert (plain.first_response, plain.summaries, plain.cache) == (None, None, None)
    counted = VersionStatistics(first_response_bounds_ns=(5 * MS, 10 * MS), summaries=True)
    counted.record_success(TIMES, 1)
    assert counted.first_response is not None
    assert counted.first_response.counts == [0, 1, 0]
    assert counted.summaries is not None
    (queue_ns,) = counted.summaries.queue.read([0.5], TIMES.compute_end_ns)
    assert queue_ns == pytest.approx(2 * MS, rel=0.011)
