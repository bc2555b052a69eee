"""Decoded pictures that wait are counted, and errors say whose they are."""

from __future__ import annotations

import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from naiad.dataplane.faces.images import EncodedImage, HeldPixels, Picture, decode, named
from naiad.vision.images import ImageLimits
from naiad.vision.transform import Origin

PICTURE = Picture(np.zeros((10, 10, 3), np.uint8), Origin(10, 10, 1))


def test_beyond_the_limit_pictures_are_refused_with_value_limit_and_flag_until_some_have_gone() -> None:
    held = HeldPixels(700)
    with held.hold([PICTURE]):
        with (
            pytest.raises(
                ResourceExhaustedError, match=r"300 bytes .* 600 more .* 700 \(--max-held-image-bytes"
            ),
            held.hold([PICTURE, PICTURE]),
        ):
            pass
        with held.hold([PICTURE]):
            assert repr(held) == "<HeldPixels bytes=600/700>"
    with held.hold([PICTURE, PICTURE]):
        pass
    assert repr(held) == "<HeldPixels bytes=0/700>"


def test_an_error_within_gives_the_bytes_back() -> None:
    held = HeldPixels(300)
    with pytest.raises(NotFoundError), held.hold([PICTURE]):
        raise NotFoundError("gone")
    with held.hold([PICTURE]):
        pass


def test_an_error_of_a_picture_keeps_its_kind_and_gets_its_field() -> None:
    for limits, kind in (
        (ImageLimits(10, 10), InvalidArgumentError),
        (ImageLimits(3, 10), ResourceExhaustedError),
    ):
        with pytest.raises(kind, match=r"^crops\[3\]: image"), named("crops[3]"):
            decode(EncodedImage(b"text"), limits)
