"""The batch decision, with Triton's rules, on a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.scheduling.batching import BatchPolicy, BatchReason, Run, Wait, next_batch

if TYPE_CHECKING:
    from collections.abc import Hashable

DELAY_NS = 1_000


@dataclass
class Item:
    batch_size: int = 1
    enqueued_ns: int = 0
    shape_key: Hashable = None


def queue(*sizes: int) -> list[Item]:
    return [Item(size) for size in sizes]


EIGHT = BatchPolicy(max_batch_size=8, preferred=(8,))
FOUR_OR_EIGHT = BatchPolicy(max_batch_size=8, preferred=(4, 8))
DELAYED = BatchPolicy(max_batch_size=8, preferred=(8,), max_queue_delay_ns=DELAY_NS)
DELAYED_FOUR = BatchPolicy(max_batch_size=8, preferred=(4,), max_queue_delay_ns=DELAY_NS)


def test_an_empty_queue_asks_for_nothing() -> None:
    assert next_batch([], 0, EIGHT) is None


def test_a_model_without_batching_runs_one_request_at_a_time() -> None:
    assert next_batch(queue(3, 1), 0, BatchPolicy()) == Run(1, BatchReason.LONE)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((1, 1, 1), Run(3, BatchReason.IDLE)),
        ((1,) * 8, Run(8, BatchReason.PREFERRED)),
        ((1,) * 12, Run(8, BatchReason.PREFERRED)),
        # Requests are never split: 5 + 5 does not fit 8, so the first goes alone.
        ((5, 5), Run(1, BatchReason.MISFIT)),
        ((8, 1), Run(1, BatchReason.PREFERRED)),
    ],
)
def test_without_delay_what_is_queued_goes_at_once(sizes: tuple[int, ...], expected: Run) -> None:
    assert next_batch(queue(*sizes), 0, EIGHT) == expected


@pytest.mark.parametrize(
    ("sizes", "taken"), [((1,) * 4, 4), ((1,) * 5, 4), ((1,) * 8, 8), ((2, 2, 2), 2), ((3, 3), 2)]
)
def test_the_longest_preferred_prefix_goes(sizes: tuple[int, ...], taken: int) -> None:
    decision = next_batch(queue(*sizes), 0, FOUR_OR_EIGHT)
    assert isinstance(decision, Run)
    assert decision.take == taken


def test_with_a_delay_a_small_batch_waits_for_the_oldest_requests_delay() -> None:
    waiting = [Item(enqueued_ns=100), Item(enqueued_ns=900)]
    assert next_batch(waiting, 900, DELAYED) == Wait(100 + DELAY_NS)
    assert next_batch(waiting, 100 + DELAY_NS, DELAYED) == Run(2, BatchReason.DELAY)


def test_with_a_delay_a_preferred_size_does_not_wait() -> None:
    assert next_batch(queue(1, 1, 1, 1), 10, DELAYED_FOUR) == Run(4, BatchReason.PREFERRED)


def test_after_the_delay_everything_that_fits_goes_preferred_or_not() -> None:
    assert next_batch(queue(*[1] * 6), DELAY_NS, DELAYED_FOUR) == Run(6, BatchReason.DELAY)


def test_a_request_of_another_shape_ends_the_batch_and_sends_it_without_waiting() -> None:
    waiting = [Item(shape_key=(1,)), Item(shape_key=(1,)), Item(shape_key=(2,)), Item(shape_key=(1,))]
    assert next_batch(waiting, 0, DELAYED) == Run(2, BatchReason.MISFIT)


def test_the_delay_counts_from_the_oldest_of_the_batch_even_behind_a_younger_one() -> None:
    """A request of a higher priority stands first and has come last."""
    waiting = [Item(enqueued_ns=900), Item(enqueued_ns=100)]
    assert next_batch(waiting, 950, DELAYED) == Wait(100 + DELAY_NS)
    assert next_batch(waiting, 100 + DELAY_NS, DELAYED) == Run(2, BatchReason.DELAY)


def test_a_request_larger_than_every_preferred_size_still_runs() -> None:
    assert next_batch(queue(7), DELAY_NS, DELAYED_FOUR) == Run(1, BatchReason.DELAY)


def test_a_request_as_large_as_every_preferred_size_waits_for_nothing() -> None:
    """More could only be added beyond the largest preferred size, so the delay would be in vain."""
    assert next_batch(queue(6), 0, DELAYED_FOUR) == Run(1, BatchReason.FULL)
    assert next_batch(queue(6, 1), 0, DELAYED_FOUR) == Run(1, BatchReason.MISFIT)


def test_what_would_pass_the_largest_preferred_size_is_left_out_until_the_delay_is_over() -> None:
    assert next_batch(queue(3, 3), 0, DELAYED_FOUR) == Run(1, BatchReason.MISFIT)
    assert next_batch(queue(3, 3), DELAY_NS, DELAYED_FOUR) == Run(2, BatchReason.DELAY)


def test_a_preferred_size_does_not_wait_for_a_larger_one() -> None:
    policy = BatchPolicy(max_batch_size=8, preferred=(4, 8), max_queue_delay_ns=DELAY_NS)
    assert next_batch(queue(*[1] * 6), 0, policy) == Run(4, BatchReason.PREFERRED)
    assert next_batch(queue(*[1] * 6), DELAY_NS, policy) == Run(6, BatchReason.DELAY)


def test_nothing_is_looked_at_behind_a_request_that_does_not_fit() -> None:
    """5 + 1 would fit 8, but the 5 between them does not."""
    assert next_batch(queue(5, 5, 1), DELAY_NS, DELAYED) == Run(1, BatchReason.MISFIT)


def test_a_full_batch_does_not_wait() -> None:
    """Also where the largest size is none of the preferred ones."""
    policy = BatchPolicy(max_batch_size=8, preferred=(3,), max_queue_delay_ns=DELAY_NS)
    assert next_batch(queue(8), 0, policy) == Run(1, BatchReason.FULL)
    assert next_batch(queue(*[1] * 8), DELAY_NS, policy) == Run(8, BatchReason.FULL)


items = st.lists(
    st.builds(Item, st.integers(1, 8), st.integers(0, 2_000), st.sampled_from([None, "a", "b"])), max_size=20
)
policies = st.builds(
    BatchPolicy,
    st.just(8),
    st.sets(st.integers(1, 8), max_size=3).map(lambda sizes: tuple(sorted(sizes))),
    st.sampled_from([0, 500, 5_000]),
)


@given(items, policies, st.integers(2_000, 10_000))
def test_a_batch_is_a_prefix_within_the_limits(waiting: list[Item], policy: BatchPolicy, now_ns: int) -> None:
    """Whatever waits: never beyond the maximum, never mixed shapes, never idle for ever."""
    decision = next_batch(waiting, now_ns, policy)
    if not waiting:
        assert decision is None
    elif isinstance(decision, Wait):
        oldest_ns = min(item.enqueued_ns for item in waiting)
        assert now_ns < decision.until_ns == oldest_ns + policy.max_queue_delay_ns
    else:
        assert decision is not None
        batch = waiting[: decision.take]
        assert batch
        assert sum(item.batch_size for item in batch) <= policy.max_batch_size
        assert len({item.shape_key for item in batch}) == 1
