"""What several versions of an embedder share: pixels decoded once, faces cut out once."""

from __future__ import annotations

import cv2
import numpy as np

from naiad.dataplane.faces import EncodedImage
from naiad.dataplane.faces.also import Shared
from naiad.vision.embedder import Crop
from naiad.vision.images import ImageLimits

NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
SHIFT = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 5.0]])


def test_a_picture_is_decoded_once() -> None:
    limits, shared = ImageLimits(10**6, 10**6), Shared()
    source = EncodedImage(cv2.imencode(".png", NOISE)[1].tobytes())
    first = shared.decode(source, limits)
    assert shared.decode(source, limits).pixels is first.pixels
    np.testing.assert_array_equal(first.pixels, NOISE)


def test_a_face_is_cut_out_once_for_all_crops_of_one_size() -> None:
    """Its pixels are those that the crop would have given; another face or size is cut out for itself."""
    shared, crop = Shared(), Crop(NOISE, SHIFT, 32)
    first = shared.cut(0, crop)
    assert shared.cut(0, Crop(NOISE, SHIFT, 32)) is first
    np.testing.assert_array_equal(first.pixels(), crop.pixels())
    assert shared.cut(0, Crop(NOISE, SHIFT, 48)).pixels().shape == (48, 48, 3)
    assert shared.cut(1, crop) is not first


def test_what_is_no_warp_is_left_as_it_is() -> None:
    crop = Crop(NOISE)
    assert Shared().cut(0, crop) is crop
