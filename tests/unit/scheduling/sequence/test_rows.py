"""The direct strategy's decision, with Triton's rules, on a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from naiad.scheduling.batching import BatchReason, Wait
from naiad.scheduling.sequence.rows import RowPolicy, RunRows, next_rows

if TYPE_CHECKING:
    from collections.abc import Hashable

AT_ONCE = RowPolicy(rows=4)
HALF = RowPolicy(rows=4, max_queue_delay_ns=1_000, minimum_utilization=0.5)


@dataclass
class Head:
    batch_size: int = 1
    enqueued_ns: int = 0
    shape_key: Hashable = None


def test_without_requests_nothing_runs() -> None:
    assert next_rows({}, 0, HALF) is None


def test_without_a_delay_what_is_there_runs_at_once() -> None:
    assert next_rows({2: Head(), 0: Head()}, 0, AT_ONCE) == RunRows((0, 2), BatchReason.IDLE)


def test_a_delay_without_a_utilization_is_no_reason_to_wait() -> None:
    for policy in (RowPolicy(4, 1_000, 0.0), RowPolicy(4, 0, 1.0)):
        assert next_rows({1: Head()}, 0, policy) == RunRows((1,), BatchReason.IDLE)


def test_too_few_rows_wait_for_the_delay_of_the_oldest() -> None:
    heads = {3: Head(enqueued_ns=100)}
    assert next_rows(heads, 500, HALF) == Wait(1_100)
    assert next_rows(heads, 1_100, HALF) == RunRows((3,), BatchReason.DELAY)


def test_enough_rows_do_not_wait() -> None:
    assert next_rows({1: Head(), 3: Head()}, 0, HALF) == RunRows((1, 3), BatchReason.UTILIZATION)


def test_rows_shaped_like_the_oldest_go_so_that_none_waits_for_ever() -> None:
    heads = {0: Head(enqueued_ns=9, shape_key="a"), 1: Head(enqueued_ns=2, shape_key="b"), 2: Head(9, 9, "b")}
    assert next_rows(heads, 10, AT_ONCE) == RunRows((1, 2), BatchReason.IDLE)


heads_of_rows = st.dictionaries(
    st.integers(0, 7),
    st.builds(Head, st.just(1), st.integers(0, 2_000), st.sampled_from([None, "a", "b"])),
    max_size=8,
)


@given(heads_of_rows, st.integers(0, 5_000), st.sampled_from([0, 700]), st.floats(0, 1))
def test_one_shape_a_run_and_the_oldest_is_in_it_or_waits_no_longer_than_its_delay(
    heads: dict[int, Head], now_ns: int, delay_ns: int, utilization: float
) -> None:
    decision = next_rows(heads, now_ns, RowPolicy(8, delay_ns, utilization))
    if not heads:
        assert decision is None
        return
    oldest_ns = min(head.enqueued_ns for head in heads.values())
    if isinstance(decision, Wait):
        assert now_ns < decision.until_ns == oldest_ns + delay_ns
        return
    assert decision is not None
    assert list(decision.rows) == sorted(set(decision.rows))
    assert len({heads[row].shape_key for row in decision.rows}) == 1
    assert min(heads[row].enqueued_ns for row in decision.rows) == oldest_ns
