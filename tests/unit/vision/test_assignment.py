"""Faces and tracks paired at least cost, within the gate."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from naiad.vision.assignment import _pairs, assign
from naiad.vision.motion import Motion


def boxes(*places: tuple[float, float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    centres = np.array(places, np.float64).reshape(-1, 2)
    return np.concatenate([centres - 20, centres + 20], axis=1)


def paired(faces: list[tuple[float, float]], tracks: list[tuple[float, float]]) -> dict[int, int]:
    rows, columns = assign(boxes(*faces), Motion.of(boxes(*tracks)))
    assert len(set(rows.tolist())) == len(rows)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def test_each_face_goes_to_the_track_next_to_it() -> None:
    assert paired([(300, 0), (100, 3), (900, 900)], [(100, 0), (303, 0)]) == {0: 1, 1: 0}


def test_nobody_is_paired_with_nobody() -> None:
    assert paired([], []) == paired([(0, 0)], []) == paired([], [(0, 0)]) == {}


def test_a_face_leaves_its_nearest_track_to_one_that_has_no_other() -> None:
    """The second face can only be the first track; the first face is nearer to that, and takes the other one."""
    assert paired([(4, 0), (-14, 0)], [(0, 0), (14, 0)]) == {0: 1, 1: 0}


def test_what_lies_beyond_the_gate_is_no_pair() -> None:
    assert paired([(60, 0)], [(0, 0)]) == {}


CENTRES = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 60)), min_size=1, max_size=5)


@given(CENTRES, CENTRES)
def test_no_other_pairing_has_more_pairs_or_costs_less(
    faces: list[tuple[int, int]], tracks: list[tuple[int, int]]
) -> None:
    motion = Motion.of(boxes(*tracks))
    costs = {
        (row, column): cost
        for row, column, cost in zip(*(part.tolist() for part in _pairs(boxes(*faces), motion)), strict=True)
    }
    rows, columns = assign(boxes(*faces), motion)
    found = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert all(pair in costs for pair in found)
    slots = [*range(len(tracks)), *[None] * len(faces)]
    best = min(
        (-len(pairs), sum(costs[pair] for pair in pairs))
        for order in set(permutations(slots, len(faces)))
        if (pairs := [pair for pair in enumerate(order) if pair in costs]) is not None
    )
    assert -len(found) == best[0]
    assert sum(costs[pair] for pair in found) <= best[1] + 1e-6
