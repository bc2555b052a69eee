"""Tracks of made-up faces whose ways are known, and of the faces of real clips."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clips import clip_faces
from support.tracks import faces, follow, line

from naiad.core.errors import InvalidArgumentError
from naiad.vision.detections import Detections
from naiad.vision.tracks import MAX_ID, Tracker

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = faces()


def test_a_face_that_stands_still_keeps_one_number_however_its_box_trembles() -> None:
    tremble = np.random.default_rng(0).normal(0, 1.5, (200, 2))
    frames = [faces((100 + x, 80 + y)) for x, y in tremble]
    assert follow(Tracker(), frames) == [[1]] * 200


def test_numbers_begin_where_they_are_told_and_go_on_from_there() -> None:
    tracker = Tracker(first_id=41)
    assert tracker.update(faces((100, 100), (300, 100))).tolist() == [41, 42]
    assert tracker.next_id == 43
    assert tracker.update(faces((500, 100), (300, 100))).tolist() == [43, 42]


def test_the_order_of_the_faces_does_not_matter() -> None:
    tracker = Tracker()
    tracker.update(faces((100, 100), (300, 100), (500, 100)))
    assert tracker.update(faces((500, 100), (100, 100), (300, 100))).tolist() == [3, 1, 2]


def test_two_who_cross_keep_their_numbers_though_their_boxes_overlap() -> None:
    ways = zip(line((100, 100), (8, 0), 40), line((420, 116), (-8, 0), 40), strict=True)
    assert follow(Tracker(), [faces(left, right) for left, right in ways]) == [[1, 2]] * 40


def test_two_who_cross_one_behind_the_other_keep_their_numbers() -> None:
    """The one behind is not seen while he is covered; afterwards each is where his way would have led him."""
    frames, expected = [], []
    for front, behind in zip(line((100, 100), (8, 0), 40), line((420, 104), (-8, 0), 40), strict=True):
        covered = abs(front[0] - behind[0]) < 30
        frames.append(faces(front) if covered else faces(front, behind))
        expected.append([1] if covered else [1, 2])
    assert [1] in expected
    assert follow(Tracker(), frames) == expected


def test_a_face_that_drifts_unseen_takes_no_number_from_one_that_is_followed() -> None:
    """One walks towards another who stands, and disappears before he arrives: the other one stays himself."""
    walker = line((100, 100), (10, 0), 12)
    frames = [faces(place, (230, 100)) for place in walker] + [faces((230, 100))] * 15
    assert follow(Tracker(), frames)[12:] == [[2]] * 15


def test_a_face_that_is_hidden_for_a_while_comes_back_as_itself_where_its_way_leads() -> None:
    way = line((100, 100), (5, 2), 60)
    frames = [NOBODY if 25 <= index < 40 else faces(place) for index, place in enumerate(way)]
    assert {track for frame in follow(Tracker(), frames) for track in frame} == {1}


@pytest.mark.parametrize(("missing", "expected"), [(0, 1), (5, 1), (6, 2), (7, 2)])
def test_a_track_ends_after_as_many_missing_frames_as_allowed(missing: int, expected: int) -> None:
    tracker = Tracker(max_missed=5)
    follow(tracker, [faces((100, 100))] * 3 + [NOBODY] * missing)
    assert tracker.update(faces((100, 100))).tolist() == [expected]


def test_a_number_is_never_given_again() -> None:
    tracker = Tracker(max_missed=0)
    given_out = [follow(tracker, [faces((100, 100)), NOBODY]) for _ in range(20)]
    assert [frames[0] for frames in given_out] == [[number] for number in range(1, 21)]
    assert len(tracker.ids) == 0


def test_dropped_frames_are_predicted_over() -> None:
    """Every frame, then every seventh: between two of those the face moves by more than its own side."""
    tracker = Tracker()
    way = line((100, 100), (7, 0), 120)
    seen = [*range(20), *range(20, 120, 7)]
    assert [tracker.update(faces(way[frame]), frame=frame).tolist() for frame in seen] == [[1]] * len(seen)
    unaware = Tracker()
    assert [unaware.update(faces(way[frame])).tolist() for frame in seen] != [[1]] * len(seen)


def test_dropped_frames_count_as_missing() -> None:
    tracker = Tracker(max_missed=5)
    tracker.update(faces((100, 100)), frame=10)
    assert tracker.update(faces((100, 100)), frame=16).tolist() == [1]
    assert tracker.update(faces((100, 100)), frame=23).tolist() == [2]


def test_a_frame_that_is_not_after_the_last_one_is_refused() -> None:
    tracker = Tracker()
    tracker.update(NOBODY, frame=7)
    with pytest.raises(InvalidArgumentError, match="frame 7 came after frame 7: tracks need their order"):
        tracker.update(NOBODY, frame=7)


def test_two_who_swap_places_from_one_frame_to_the_next_swap_numbers() -> None:
    """No motion explains it and pictures are not looked at: places count."""
    tracker = Tracker()
    follow(tracker, [faces((100, 100), (400, 100))] * 5)
    assert tracker.update(faces((400, 100), (100, 100))).tolist() == [2, 1]


def test_a_much_larger_face_in_the_same_place_is_another_one() -> None:
    tracker = Tracker()
    follow(tracker, [faces((100, 100, 40))] * 5)
    assert tracker.update(faces((100, 100, 70))).tolist() == [2]


def test_classes_do_not_mix() -> None:
    tracker = Tracker()
    first = tracker.update(faces((100, 100), (102, 100), labels=[3, 7])).tolist()
    assert tracker.update(faces((102, 100), (100, 100), labels=[7, 3])).tolist() == first[::-1]
    assert tracker.update(faces((100, 100), labels=[5])).tolist() == [3]


def test_no_more_tracks_are_kept_than_allowed_and_the_oldest_go_first() -> None:
    tracker = Tracker(max_tracks=3)
    follow(tracker, [faces((100, 100), (300, 100)), faces((500, 100), (700, 100))])
    assert tracker.ids.tolist() == [1, 3, 4]
    many = tracker.update(faces(*((200 * index, 500) for index in range(10)))).tolist()
    assert many == list(range(5, 15))
    assert len(tracker.ids) == 3


def test_nobody_is_no_trouble() -> None:
    tracker = Tracker()
    assert tracker.update(NOBODY).tolist() == []
    assert tracker.update(faces((100, 100))).tolist() == [1]
    assert tracker.update(NOBODY).tolist() == []
    assert tracker.update(faces((100, 100))).tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_id": 0}, "first_track_id is 0, it must be from 1"),
        ({"first_id": MAX_ID + 1}, f"first_track_id is {MAX_ID + 1}, it must be from 1 to {MAX_ID}"),
        ({"max_missed": -1}, "max_missed is -1"),
        ({"max_tracks": 0}, "max_tracks is 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Tracker(**settings)


BOXES = st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2, st.floats(0, 1e6, width=32)), max_size=12)


@given(st.lists(st.tuples(BOXES, st.integers(1, 1000)), max_size=12), st.integers(0, 9))
def test_whatever_comes_each_face_has_one_live_number_and_none_comes_back(
    frames: list[tuple[list[tuple[float, float, float]], int]], max_missed: int
) -> None:
    tracker, frame, highest = Tracker(max_missed=max_missed, max_tracks=20), 0, 0
    ended: set[int] = set()
    for places, gap in frames:
        frame += gap
        before = set(tracker.ids.tolist())
        ids = tracker.update(faces(*places), frame=frame).tolist()
        assert len(set(ids)) == len(places)
        assert not ended & set(ids)
        assert all(track in before or track > highest for track in ids)
        ended |= (before | set(ids)) - set(tracker.ids.tolist())
        highest = max([highest, *ids])
        assert highest < tracker.next_id
        assert len(tracker.ids) <= 20


def test_a_crowd_is_followed_without_a_switch() -> None:
    """300 faces that wander, each by less than half a face a frame."""
    generator = np.random.default_rng(1)
    columns, rows = np.meshgrid(np.arange(20) * 90, np.arange(15) * 90)
    places = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
    tracker = Tracker()
    for _ in range(10):
        places = places + generator.uniform(-6, 6, places.shape)
        assert tracker.update(faces(*places)).tolist() == list(range(1, 301))


def golden_faces(entries: list[dict[str, Any]]) -> Detections:
    boxes = np.array([face["box"] for face in entries], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([face["score"] for face in entries], np.float32))


@pytest.mark.assets
def test_every_ninth_frame_of_a_clip_is_enough_to_follow_those_who_sit(assets: Path) -> None:
    """Golden faces: a stage of two, a close-up, a singer, and after a cut an audience of four."""
    golden = json.loads((assets / "golden" / "video_hamilton_frames__yunet_n_640_640.json").read_text())
    tracker, found = Tracker(), {}
    for name, entries in golden["frames"].items():
        frame = int(name.split(".")[0])
        found[frame] = tracker.update(golden_faces(entries), frame=frame).tolist()
    assert {tuple(sorted(ids)) for frame, ids in found.items() if frame <= 18} == {(1, 2)}
    singer = {track for frame, ids in found.items() if 90 <= frame <= 207 for track in ids}
    assert len(singer) == 1
    assert not singer & {1, 2}
    audience = [set(ids) for frame, ids in found.items() if frame >= 216]
    assert len(audience[0]) == 4
    assert all(ids == audience[0] for ids in audience)
    assert tracker.next_id - 1 <= 7


@pytest.mark.assets
def test_who_crosses_a_busy_street_before_others_switches_no_number(assets: Path) -> None:
    """Every frame of the clip: she walks from left to right, and covers others who walk towards the camera."""
    tracker = Tracker()
    ways: dict[int, list[float]] = {}
    for _, found in clip_faces(assets, "street_1080p.mp4"):
        for track, box in zip(tracker.update(found).tolist(), found.boxes.tolist(), strict=True):
            ways.setdefault(track, []).append(box[0])
    crossing = [way for way in ways.values() if way[-1] - way[0] > 1000]
    assert [len(way) for way in crossing] == [35]  # she leaves the picture then
    followed = [way for way in ways.values() if len(way) > 85]
    assert len(followed) == 2
    assert min(np.diff(crossing[0])) > 20  # always to the right: nobody else's face
    assert max(abs(np.diff(way)).max() for way in followed) < 30
    assert tracker.next_id <= 16
