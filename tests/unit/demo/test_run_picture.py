"""The demo's drawings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from naiad.core.errors import InternalError
from naiad.demo import picture
from naiad.demo.figures import PhotoFigures
from naiad.demo.sheets import counted, draw_frames, draw_photo, sheet_frames
from naiad_client import Box, DetectResult, Face, Timing

if TYPE_CHECKING:
    from pathlib import Path

LANDMARKS = np.array([[40, 40], [60, 40], [50, 50], [42, 62], [58, 62]], np.float32)
FACE = Face(Box(30, 30, 70, 75), 0.98, LANDMARKS)
GRAY = np.full((100, 120, 3), 128, np.uint8)


def test_a_face_is_drawn_where_it_is() -> None:
    """Twice as large as the picture: the box's left edge is at x = 60, the nose at (100, 100), in colour."""
    drawn = picture.with_faces(GRAY, [FACE], 240)
    assert drawn.shape == (200, 240, 3)
    assert tuple(drawn[120, 60]) == picture.ACCENT
    assert tuple(drawn[110, 140]) == picture.ACCENT
    assert (drawn[100, 100] != 128).any()
    assert (drawn[120, 10] == 128).all()
    assert (GRAY == 128).all(), "the original stays as it is"


def test_a_face_without_landmarks_or_at_the_edge_is_drawn_too() -> None:
    drawn = picture.with_faces(GRAY, [Face(Box(-20, -10, 30, 40), 0.5)], 120)
    assert tuple(drawn[20, 30]) == picture.ACCENT


def test_the_label_of_a_small_face_in_a_large_picture_is_small() -> None:
    """In a crowd labels as large as the picture would hide the faces: here 40 pixels wide in 1600."""
    large = np.full((400, 1600, 3), 128, np.uint8)
    drawn = picture.with_faces(large, [Face(Box(800, 200, 840, 250), 0.5)], 1600)
    rows, columns = np.nonzero((drawn != 128).any(axis=2))
    assert columns.max() - columns.min() < 2 * 40
    assert 200 - rows.min() < 40


def test_a_strip_is_put_below() -> None:
    captioned = picture.captioned(GRAY, "title", "note")
    assert captioned.shape[0] > 100
    assert captioned.shape[1] == 120
    assert (captioned[:100] == GRAY).all()


def test_pictures_stand_side_by_side_in_rows() -> None:
    """Five in rows of three: two rows, the last place empty."""
    cells = [np.full((10, 20, 3), 100 + index, np.uint8) for index in range(5)]
    sheet = picture.side_by_side(cells, 3, gap=2)
    assert sheet.shape == (22, 64, 3)
    assert [int(sheet[row, column, 0]) for row, column in ((5, 5), (5, 30), (5, 60), (15, 5), (15, 30))] == [
        100,
        101,
        102,
        103,
        104,
    ]
    assert int(sheet[15, 60, 0]) < 100


def test_no_pictures_make_no_sheet() -> None:
    with pytest.raises(InternalError, match="no pictures"):
        picture.side_by_side([], 2)


def test_a_saved_picture_reads_back(tmp_path: Path) -> None:
    picture.save(tmp_path / "a.jpg", GRAY)
    assert abs(picture.decode((tmp_path / "a.jpg").read_bytes()).astype(int) - GRAY).max() <= 2


def test_a_png_is_saved_without_a_word_of_jpegs_quality(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And loses nothing."""
    picture.save(tmp_path / "a.png", GRAY)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), GRAY)
    assert capfd.readouterr().err == ""


def test_a_picture_that_cannot_be_saved_or_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match=r"nowhere/a.jpg"):
        picture.save(tmp_path / "nowhere" / "a.jpg", GRAY)
    with pytest.raises(InternalError, match="JPEG of 3 bytes"):
        picture.decode(b"abc")


def test_the_photo_shows_each_version_in_a_panel_of_its_own() -> None:
    findings = [PhotoFigures("face_detector", version, [FACE], 5, 20.0) for version in ("1", "2")]
    drawn = draw_photo(GRAY, findings)
    assert drawn.shape[1] > 2 * 720
    left, right = drawn[:, :720], drawn[:, -720:]
    assert (left == picture.WARM).all(axis=2).any()
    assert not (right == picture.WARM).all(axis=2).any()
    assert (right == picture.ACCENT).all(axis=2).any()


def test_frames_are_drawn_in_their_order() -> None:
    """Results may be kept in any order: a dark frame 0 comes before a light frame 1."""
    frames = [cv2.imencode(".jpg", np.full((60, 80, 3), level, np.uint8))[1].tobytes() for level in (20, 220)]
    found = DetectResult([], "face_detector", "2", 80, 60, Timing(0, 0, 0, 0, 0, 0, 1))
    cells = draw_frames(frames, {1: found, 0: found}, "2")
    assert [int(cell[10, 10, 0]) for cell in cells] == pytest.approx([20, 220], abs=2)


@pytest.mark.parametrize(("count", "expected"), [(1, {0}), (3, {0, 1, 2}), (60, {0, 10, 20, 30, 40, 50})])
def test_the_sheet_takes_frames_from_all_over_the_stream(count: int, expected: set[int]) -> None:
    assert sheet_frames(count) == expected


def test_counts_read_well() -> None:
    assert [counted(number, "face") for number in range(3)] == ["no face", "1 face", "2 faces"]
