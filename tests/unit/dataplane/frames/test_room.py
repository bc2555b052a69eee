"""The room for frames is the least that keeps a model version busy."""

from __future__ import annotations

import pytest

from naiad.dataplane.frames.room import Capacity, best_batch, room

MS = 1_000_000


@pytest.mark.parametrize(
    ("run_of_one", "each_more", "best"),
    [(0, 10, 1), (9, 1, 16), (1, 9, 1), (3, 7, 2), (5, 5, 4)],
)
def test_the_best_batch_is_the_smallest_that_gives_nearly_all(
    run_of_one: int, each_more: int, best: int
) -> None:
    """A run takes a part for itself and a part for each item: the larger the former, the larger the batch."""
    capacity = Capacity(1, 32, 0, 4)
    assert best_batch(capacity, 32, lambda size: (run_of_one + each_more * size) * MS) == best


def test_larger_batches_are_tried_step_by_step() -> None:
    """What was not measured yet may be as quick as what was, up to twice the size."""
    capacity = Capacity(1, 6, 0, 4)
    assert [best_batch(capacity, largest, lambda _: MS) for largest in (1, 2, 4, 6)] == [2, 4, 6, 6]


def test_a_batch_that_would_wait_for_others_is_better_full() -> None:
    """A run takes 1 ms an item, and a batch that is not full waits for 2 ms."""
    assert best_batch(Capacity(1, 8, 2 * MS, 2), 8, lambda size: size * MS) == 8
    assert best_batch(Capacity(1, 8, 0, 2), 8, lambda size: size * MS) == 1


@pytest.mark.parametrize(
    ("capacity", "batch", "other_ms", "expected"),
    [
        (Capacity(1, 1, 0, 4), 1, 0.9, 1),  # hardly anything to prepare: none waits for a run
        (Capacity(1, 1, 0, 4), 1, 2, 2),
        (Capacity(2, 1, 0, 4), 1, 2, 4),
        (Capacity(1, 1, 0, 4), 1, 45, 4),  # three are prepared in the time of a run
        (Capacity(1, 1, 0, 4), 1, 900, 5),  # the threads are the limit
        (Capacity(1, 8, 0, 4), 8, 0.1, 16),  # the next batch fills while one runs
        (Capacity(2, 8, 0, 4), 8, 3, 32),
    ],
)
def test_room_is_what_runs_and_what_must_be_under_way(
    capacity: Capacity, batch: int, other_ms: float, expected: int
) -> None:
    """A run takes 20 ms."""
    assert room(capacity, batch, 20 * MS, other_ms * MS) == expected


def test_where_runs_are_short_the_next_frame_waits_for_the_instance_to_be_handed_over() -> None:
    """What passes between two runs is a tenth of 8 ms and more, and of 80 ms it is nothing."""
    capacity = Capacity(2, 1, 0, 4)
    assert room(capacity, 1, 8 * MS, 0) == 4
    assert room(capacity, 1, 80 * MS, 0) == 2
