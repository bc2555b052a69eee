"""What two versions found in a request's pictures, drawn side by side onto the model's own input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.config.vision_config import ColorOrder, Layout
from naiad.demo import picture
from naiad.demo.sheets import counted
from naiad_client import Box, Face

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from naiad.config.vision_config import InputConfig
    from naiad.core.tensors import Array
    from naiad.demo.picture import Picture
    from naiad.vision.arrays import Pixels
    from naiad.vision.detections import Detections

    Found = Mapping[int, list[Detections] | None]

_COLORS = (picture.WARM, picture.ACCENT)
_LEAST_WIDTH = 480
"""Pixels; smaller inputs are enlarged."""


def pixels_of(config: InputConfig, row: Array) -> Pixels:
    """A model's input turned back into a picture, uint8 `[H, W, 3]` BGR, as its pre-processing made it.

    Args:
        config: how pictures become the input.
        row: one picture's tensor, `[C, H, W]` or `[H, W, C]`, perhaps after a leading 1.
    """
    values = row.reshape(row.shape[-3:]).astype(np.float64)
    if config.layout is Layout.NCHW:
        values = np.moveaxis(values, 0, 2)
    with np.errstate(all="ignore"):
        values = values / np.asarray(config.scale) + np.asarray(config.mean)
    pixels = np.nan_to_num(values, posinf=255, neginf=0).round().clip(0, 255).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., ::-1] if config.color is ColorOrder.RGB else pixels)


def write_pictures(folder: Path, stem: str, config: InputConfig, tensor: Array, found: Found) -> None:
    """Write one PNG a picture, `STEM-ROW.png`.

    Args:
        folder: where to.
        stem: of the files' names.
        config: how pictures became `tensor`.
        tensor: the request's pictures.
        found: of each version the faces of each picture in pixels of the input, the baseline's first; None if
            its answer could not be read.

    Raises:
        InternalError: a file cannot be written.
    """
    count = max((len(each) for each in found.values() if each is not None), default=0)
    rows = tensor.reshape(count, *tensor.shape[-3:]) if count else ()
    for index, row in enumerate(rows):
        pixels = pixels_of(config, row)
        panels = [
            _panel(pixels, version, None if each is None else each[index], color)
            for (version, each), color in zip(found.items(), _COLORS, strict=True)
        ]
        picture.save(folder / f"{stem}-{index}.png", picture.side_by_side(panels, len(panels)))


def _panel(pixels: Picture, version: int, faces: Detections | None, color: picture.Color) -> Picture:
    drawn = picture.with_faces(pixels, _faces(faces), max(_LEAST_WIDTH, pixels.shape[1]), color)
    note = "cannot be read" if faces is None else counted(len(faces), "face")
    return picture.captioned(drawn, f"version {version}", note, color)


def _faces(found: Detections | None) -> list[Face]:
    if found is None:
        return []
    points = [None] * len(found) if found.landmarks is None else found.landmarks
    return [
        Face(Box(*map(float, box)), float(score), landmarks)
        for box, score, landmarks in zip(found.boxes, found.scores, points, strict=True)
    ]
