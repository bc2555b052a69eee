"""A picture and limits that the vision layer's tests share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from naiad.vision.images import ImageLimits


@pytest.fixture
def limits() -> ImageLimits:
    """Generous enough for every honest picture here."""
    return ImageLimits(max_bytes=50_000_000, max_pixels=40_000_000)


@pytest.fixture
def photo() -> npt.NDArray[np.uint8]:
    """A smooth picture of 90 x 60 pixels, none of its corners alike: lossy codecs stay near it."""
    rows, columns = np.mgrid[:60, :90]
    return np.stack([columns * 2, rows * 4, 255 - columns - rows], axis=-1).astype(np.uint8)
