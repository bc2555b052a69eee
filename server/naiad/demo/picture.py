"""Draws what was found: faces into pictures, pictures side by side. Pictures are uint8 [H,W,3] BGR."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.core.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from naiad_client import Face

    Picture = npt.NDArray[np.uint8]
    Color = tuple[int, int, int]

ACCENT: Color = (190, 220, 60)
WARM: Color = (70, 170, 255)
_LANDMARKS: Color = (90, 220, 255)
_DARK: Color = (38, 32, 28)
_LIGHT: Color = (240, 240, 240)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_QUALITY = 92
_JPEG = {".jpg", ".jpeg"}
_LEAST_SIZE = 0.8
"""Text of a strip shrinks with the picture, but not until nobody can read it."""
_LEAST_TAG = 0.7
"""A face's label shrinks with the face, so that a crowd is not hidden, but not until nobody can read it."""
_TAG_FACE = 45.0
"""Width in pixels of a face that is as wide as its label at size 1."""
_LEAST_RING = 2.5
"""Radius in pixels below which a landmark's dark ring would hide more than it shows."""


def decode(data: bytes) -> Picture:
    """A JPEG file's pixels.

    Raises:
        InternalError: OpenCV cannot read it.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise InternalError(f"OpenCV cannot read a JPEG of {len(data)} bytes")
    return np.asarray(picture, np.uint8)


def save(path: Path, picture: Picture) -> None:
    """Write a JPEG file, or what else the path's suffix says.

    Raises:
        InternalError: it cannot be written.
    """
    # Writers of other formats complain of what is not theirs.
    parameters = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if path.suffix in _JPEG else []
    try:
        done = cv2.imwrite(str(path), picture, parameters)
    except cv2.error as error:
        raise InternalError(f"'{path}' cannot be written: {error}") from error
    if not done:
        raise InternalError(f"'{path}' cannot be written")


def with_faces(picture: Picture, faces: Sequence[Face], width: int, color: Color = ACCENT) -> Picture:
    """A copy, `width` pixels wide, with each face's box, landmarks, track and score."""
    zoom = width / picture.shape[1]
    height = round(picture.shape[0] * zoom)
    drawn: Picture = cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    )
    for face in faces:
        _draw_face(drawn, face, zoom, color, max(1.0, width / 640))
    return drawn


def captioned(picture: Picture, title: str, note: str, color: Color = ACCENT) -> Picture:
    """The picture with a strip below it: `title` on the left, `note` on the right."""
    width = picture.shape[1]
    size = max(_LEAST_SIZE, width / 640)
    strip = np.full((round(46 * size), width, 3), _DARK, np.uint8)
    strip[: round(3 * size)] = color
    base = round(31 * size)
    _text(strip, title, (round(14 * size), base), 0.62 * size, color)
    (right, _), _ = cv2.getTextSize(note, _FONT, 0.5 * size, 1)
    _text(strip, note, (width - right - round(14 * size), base), 0.5 * size, _LIGHT)
    return np.concatenate([picture, strip])


def side_by_side(pictures: Sequence[Picture], columns: int, gap: int = 6) -> Picture:
    """Pictures of one size in rows of `columns`, the last row filled up, `gap` pixels between them.

    Raises:
        InternalError: there are none.
    """
    if not pictures:
        raise InternalError("no pictures to put side by side")
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), _DARK, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def _draw_face(drawn: Picture, face: Face, zoom: float, color: Color, size: float) -> None:
    left, top, right, bottom = (round(edge * zoom) for edge in face.box)
    # Thinner lines on a small face: it should be seen, too.
    dot = min(4 * size, (right - left) / 22)
    cv2.rectangle(
        drawn, (left, top), (right, bottom), color, max(1, min(round(2 * size), round(dot))), cv2.LINE_AA
    )
    for x, y in () if face.landmarks is None else face.landmarks * zoom:
        center = (round(x), round(y))
        if dot > _LEAST_RING:
            cv2.circle(drawn, center, round(dot), _DARK, -1, cv2.LINE_AA)
        cv2.circle(drawn, center, round(0.75 * dot), _LANDMARKS, -1, cv2.LINE_AA)
    number = "" if face.track_id is None else f"#{face.track_id} "
    label = min(size, max(_LEAST_TAG, (right - left) / _TAG_FACE))
    _tag(drawn, f"{number}{face.score:.3f}", (left, top), color, label)


def _tag(drawn: Picture, text: str, corner: tuple[int, int], color: Color, size: float) -> None:
    """A filled label on top of a box, or within it where the picture ends."""
    scale, pad = 0.5 * size, round(5 * size)
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    left, bottom = corner[0] - round(size), corner[1]
    bottom = max(bottom, height + 2 * pad)
    cv2.rectangle(drawn, (left, bottom - height - 2 * pad), (left + width + 2 * pad, bottom), color, -1)
    _text(drawn, text, (left + pad, bottom - pad), scale, _DARK)


def _text(drawn: Picture, text: str, at: tuple[int, int], scale: float, color: Color) -> None:
    cv2.putText(drawn, text, at, _FONT, scale, color, 1, cv2.LINE_AA)
