"""The verdicts: each bound, where it comes from, and that what was not measured is not passed."""

from __future__ import annotations

from typing import Any

import pytest
from bench.criteria import P99_FACTOR, STREAM_SHARE, TRITON_STREAMED_PER_S, TUNED_TRITON, Verdict, judge
from bench.results import Row, Sample, Series, summarise


def rows(**served: Any) -> list[Row]:
    """A run of `ultraface` with bare at half the reference machine's rate."""
    bare = Series("ultraface", "UltraFace", "u", "bare", "1 x 1", "bare", 1, threads=1)
    bare.samples = {0: Sample(810, 1_200, 1_300, 1_400, client_cpu_us=1_000)}
    values: dict[str, Any] = {
        "requests_per_s": 500,
        "p50_us": 1_500,
        "p90_us": 2_000,
        "p99_us": 10_000,
        "client_cpu_us": 50,
        "server_cpu_us": 1_400,
    }
    series = [bare]
    for target, level in (("Naiad", 1), ("Naiad", 8), ("Triton", 8)):
        one = Series("ultraface", "UltraFace", "u", target, "", "closed", level, client="perf_analyzer")
        changes = served if target == "Naiad" else {"requests_per_s": 450}
        one.samples = {0: Sample(**(values | changes))}
        series.append(one)
    return summarise(series)


def verdict(verdicts: list[Verdict], words: str) -> Verdict:
    [found] = [each for each in verdicts if words in each.name]
    return found


def test_a_run_that_is_good_enough_passes() -> None:
    measured = [each for each in judge(rows()) if each.measured is not None]
    assert {each.name: each.passed for each in measured} == {
        "UltraFace, 8 clients: share of bare": True,
        "UltraFace, 8 clients: p99": True,
        "UltraFace, 8 clients: ahead of Triton": True,
        "UltraFace, 1 client: p50": True,
        "UltraFace, 8 clients: server CPU a request beyond bare": True,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"requests_per_s": 480}, "share of bare"),
        ({"p99_us": 29_000}, "8 clients: p99"),
        ({"requests_per_s": 440}, "ahead of Triton"),
        ({"p50_us": 1_520}, "1 client: p50"),
        ({"server_cpu_us": 1_600}, "beyond bare"),
    ],
)
def test_each_bound_can_be_missed(changes: dict[str, Any], words: str) -> None:
    found = [each for each in judge(rows(**changes)) if words in each.name and each.measured is not None]
    assert [each.passed for each in found] == [False]


def test_a_reference_p99_is_scaled_by_what_bare_does_here() -> None:
    """This machine does half of the other one's bare runs, so an answer may take twice as long."""
    tail = verdict(judge(rows()), "UltraFace, 8 clients: p99")
    assert tail.wanted == pytest.approx(P99_FACTOR * TUNED_TRITON["ultraface"].p99_ms * 2)
    assert "1,620 / 810" in tail.note


def test_the_streamed_rate_is_scaled_by_the_mean_of_the_models() -> None:
    streamed = verdict(judge(rows()), "add_sub_stream")
    assert streamed.wanted == pytest.approx(STREAM_SHARE * TRITON_STREAMED_PER_S * 0.5)


def test_what_was_not_measured_is_neither_passed_nor_missed() -> None:
    verdicts = judge([])
    assert verdicts
    assert {each.passed for each in verdicts} == {None}


def test_one_client_is_compared_with_bare_and_a_quarter_of_a_millisecond() -> None:
    one = verdict(judge(rows()), "UltraFace, 1 client: p50")
    assert one.wanted == pytest.approx(1.05 * 1.2 + 0.25)
    assert one.measured == pytest.approx(1.5)
