"""The weight-free graphs: an honest descriptor, and sums and differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from naiad.demo.descriptor import DIMENSIONS, build_add_sub, build_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Run = Callable[..., dict[str, Array]]


@pytest.fixture(scope="module")
def embed(prepare: Callable[..., Run]) -> Run:
    return prepare(build_descriptor())


@pytest.fixture(scope="module")
def crop(portrait: Array) -> Array:
    return np.ascontiguousarray(cv2.resize(portrait[50:170, 160:280], (112, 112)))


def test_embeddings_have_length_one(embed: Run, crop: Array) -> None:
    result = embed(image=np.stack([crop, crop[::-1]]))["embedding"]
    assert result.shape == (2, DIMENSIONS)
    assert result.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, atol=1e-5)


def test_a_crop_does_not_depend_on_its_batch(embed: Run, crop: Array) -> None:
    together = embed(image=np.stack([crop[:, ::-1], crop, crop // 2]))["embedding"]
    np.testing.assert_allclose(together[1], embed(image=crop[None])["embedding"][0], atol=1e-6)


def test_brightness_hardly_matters_and_another_picture_does(embed: Run, crop: Array, portrait: Array) -> None:
    other = np.ascontiguousarray(portrait[300:412, 300:412])
    same, darker, different = embed(image=np.stack([crop, crop // 2, other]))["embedding"]
    assert same @ darker > 0.98
    assert same @ different < 0.7


def test_an_even_crop_gives_zeros_and_no_nan(embed: Run) -> None:
    assert not embed(image=np.full((1, 112, 112, 3), 77, np.uint8))["embedding"].any()


def test_an_edge_is_seen_in_the_direction_it_rises(embed: Run) -> None:
    """A picture that brightens to the right fills direction 0 of the edge's cells most."""
    ramp = np.zeros((112, 112, 3), np.uint8)
    ramp[:, 56:] = 200
    bins = embed(image=ramp[None])["embedding"].reshape(8, 8, 8)
    assert bins[:, :, 3:5].mean(axis=(1, 2)).argmax() == 0
    assert bins[0, :, 4].min() > bins[0, :, 0].max()


def test_add_sub_adds_and_subtracts(prepare: Callable[..., Run]) -> None:
    left, right = np.arange(32, dtype=np.float32).reshape(2, 16), np.full((2, 16), 3, np.float32)
    result = prepare(build_add_sub())(INPUT0=left, INPUT1=right)
    np.testing.assert_array_equal(result["OUTPUT0"], left + right)
    np.testing.assert_array_equal(result["OUTPUT1"], left - right)
