"""A graph of finished rows behind the vision service: classes and six landmarks reach the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import ROWS_CONFIG, rows_detector

from naiad_client.aio import Client

if TYPE_CHECKING:
    from pathlib import Path


async def test_rows_of_one_picture_come_back_in_its_pixels_with_class_and_landmarks(tmp_path: Path) -> None:
    """A picture of 128 x 64 in the middle of 64 x 64, the border of 114 above it: the first pixel is border."""
    add_model(tmp_path, "rows", rows_detector(), ROWS_CONFIG)
    picture = np.full((64, 128, 3), 255, np.uint8)
    async with server(tmp_path) as running, Client(address(running)) as client:
        answer = await client.detect(picture, color="bgr")
    first, second = answer.faces
    assert [first.label, second.label] == [3, 7], "classes do not suppress each other"
    assert first.score == pytest.approx(114 / 255)
    assert second.score == pytest.approx(57 / 255)
    for face in answer.faces:
        assert (face.box.x1, face.box.y1, face.box.x2, face.box.y2) == (32, 0, 96, 64)
        assert face.landmarks is not None
        np.testing.assert_array_equal(face.landmarks, [[64, 32]] * 6)
