"""The photo and the video: always the same, and the face always in sight."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from naiad.demo import media
from naiad.demo.media import PERIOD, photo_jpeg, video_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]


def decode(data: bytes) -> Array:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.ascontiguousarray(picture[:, :, ::-1])


def test_the_jpeg_shows_the_photo_in_its_colours(portrait: Array) -> None:
    assert portrait.shape == (512, 512, 3)
    assert portrait.dtype == np.uint8
    difference = np.abs(decode(photo_jpeg()).astype(int) - portrait)
    assert difference.mean() < 4


def test_frames_are_jpegs_of_one_size_and_all_different() -> None:
    frames = list(video_frames(5))
    assert [decode(frame).shape for frame in frames] == [(480, 640, 3)] * 5
    assert len(set(frames)) == 5


def test_frames_are_the_same_in_every_call_and_every_period() -> None:
    assert list(video_frames(3)) == list(islice(video_frames(9), 3))
    first, again = (media._frame(media.photo(), index) for index in (0, PERIOD))
    np.testing.assert_array_equal(first, again)


def test_no_frames_are_made_for_none() -> None:
    assert list(video_frames(0)) == []


def test_the_face_is_in_sight_from_near_to_far(detector: Callable[..., dict[str, Array]]) -> None:
    """Its height falls from hundreds of pixels to what only a fine pyramid finds, and it is never lost."""
    frames = np.stack([media._frame(media.photo(), index) for index in range(0, PERIOD, 15)])
    result = detector(image=frames)
    assert result["count"].tolist() == [1] * len(frames)
    heights = result["boxes"][:, 0, 3] - result["boxes"][:, 0, 1]
    assert heights.max() > 150
    assert heights.min() < 30
