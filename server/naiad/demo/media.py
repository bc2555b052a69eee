"""Pictures for the demo: a photo that scikit-image brings along, and a video made by moving over it.

The photo is NASA's portrait of Eileen Collins, in the public domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.core.errors import InternalError
from naiad.demo.graph import demo_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

FRAME_WIDTH, FRAME_HEIGHT = 640, 480
PERIOD = 120
"""Frames after which the camera is back where it began."""
_FACE = (223.0, 118.0)
"""Centre of the face in the photo, in pixels (x, y)."""
_NEAREST, _FARTHEST = 1.6, 0.2
"""Zoom, frame pixels a photo pixel. The face is 83 pixels wide in the photo, so 17 when it is farthest."""
_NEAR = 28
"""So many frames before and after the nearest one the face is 60 pixels wide and more."""
_QUALITY = 90


def photo() -> Picture:
    """The photo: UINT8 [512, 512, 3] RGB.

    Raises:
        UnavailableError: scikit-image is not installed.
    """
    picture: Picture = demo_module("skimage.data").astronaut()
    return picture


def photo_jpeg() -> bytes:
    """The photo as a JPEG file."""
    return _encode(photo()[:, :, ::-1])


def video_frames(count: int) -> Iterator[bytes]:
    """Frames of 640x480 as JPEG files, panning and zooming over the photo with the face always in sight.

    Frame i is the same in every call, and the same as frame i + 120.

    Args:
        count: how many.
    """
    bgr = np.ascontiguousarray(photo()[:, :, ::-1])
    for index in range(count):
        yield _encode(_frame(bgr, index))


def near_frames(count: int) -> Iterator[bytes]:
    """Frames of the video, spread evenly over those in which the face is large, as JPEG files.

    Args:
        count: how many, at least 1; each differs from the others up to 57 of them.
    """
    bgr = np.ascontiguousarray(photo()[:, :, ::-1])
    for index in np.linspace(-_NEAR, _NEAR, count).round().astype(int):
        yield _encode(_frame(bgr, int(index) % PERIOD))


def _frame(bgr: Picture, index: int) -> Picture:
    """One frame: the zoom swings once a period, the face's place in the frame follows another path."""
    phase = 2 * np.pi * index / PERIOD
    swing = (1 + np.cos(phase)) / 2
    side = round(bgr.shape[0] * _NEAREST**swing * _FARTHEST ** (1 - swing))
    zoom = side / bgr.shape[0]
    # Shrinking by area averages keeps small faces from turning into noise; warpAffine alone does not.
    scaled = cv2.resize(bgr, (side, side), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    x = FRAME_WIDTH * (0.5 + 0.2 * np.sin(phase)) - zoom * _FACE[0]
    y = FRAME_HEIGHT * (0.45 + 0.1 * np.sin(2 * phase)) - zoom * _FACE[1]
    move = np.array([[1, 0, x], [0, 1, y]])
    frame = cv2.warpAffine(scaled, move, (FRAME_WIDTH, FRAME_HEIGHT), borderValue=(64, 64, 64))
    return np.asarray(frame, np.uint8)


def _encode(bgr: Picture) -> bytes:
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise InternalError(f"OpenCV could not encode a picture of shape {bgr.shape} as JPEG")
    encoded: bytes = data.tobytes()
    return encoded
