"""Where tracks are expected: evenly moving boxes, gaps, and how unsure a track gets."""

from __future__ import annotations

import numpy as np
import pytest

from naiad.vision.motion import Motion


def box(x: float, y: float = 50.0, side: float = 20.0) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def seen(*places: list[float]) -> Motion:
    """One track that was seen in those places, a frame apart."""
    motion = Motion.of(np.array(places[:1]))
    for place in places[1:]:
        motion.predict(1)
        motion.correct(np.array([0]), np.array([place]))
    return motion


def test_a_track_begins_where_it_was_seen_and_at_rest() -> None:
    motion = seen(box(100))
    motion.predict(5)
    np.testing.assert_allclose(motion.boxes, [box(100)])


def test_an_even_motion_and_growth_are_learnt_and_carried_on() -> None:
    motion = seen(*(box(100 + 3 * index, side=20 + 0.2 * index) for index in range(40)))
    motion.predict(10)
    np.testing.assert_allclose(motion.boxes, [box(100 + 3 * 49, side=20 + 0.2 * 49)], atol=0.5)


def test_a_gap_is_predicted_over_as_frame_by_frame() -> None:
    steps, leap = seen(box(100), box(103), box(106)), seen(box(100), box(103), box(106))
    for _ in range(7):
        steps.predict(1)
    leap.predict(7)
    np.testing.assert_allclose(leap.boxes, steps.boxes)
    assert leap.doubt[0] == pytest.approx(steps.doubt[0], rel=0.3)


def test_doubt_and_reach_grow_while_a_track_is_missing_and_shrink_when_it_is_seen() -> None:
    motion = seen(*(box(100) for _ in range(10)))
    sure, near = motion.doubt[0], motion.reach(3, 100)[0, 0]
    motion.predict(15)
    assert motion.doubt[0] > 2 * sure
    assert motion.reach(3, 100)[0, 0] > 2 * near
    assert motion.reach(3, 2)[0].tolist() == [min(40, motion.reach(3, 100)[0, 0])] * 2
    unsure = motion.doubt[0]
    motion.correct(np.array([0]), np.array([box(100)]))
    assert motion.doubt[0] < unsure


def test_a_box_without_area_and_one_beyond_all_pictures_do_no_harm() -> None:
    motion = Motion.of(np.array([[5.0, 5, 5, 5], [1e38, 1e38, 1e38, 1e38]], np.float32))
    for _ in range(3):
        motion.predict(1000)
        motion.correct(np.array([0, 1]), np.array([[5.0, 5, 5, 5], [1e38, 0, 1e38, 0]], np.float32))
    assert np.isfinite(motion.boxes).all()
    assert (motion.boxes[:, 2:] > motion.boxes[:, :2])[0].all()


def test_tracks_are_taken_and_joined_in_order() -> None:
    three = Motion.of(np.array([box(10), box(20)])).joined(Motion.of(np.array([box(30)])))
    assert len(three) == 3
    np.testing.assert_allclose(three.take(np.array([2, 0])).boxes, [box(30), box(10)])
