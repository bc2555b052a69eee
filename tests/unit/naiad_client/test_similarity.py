"""Cosines of vectors without a server: what may be compared, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from naiad_client import Box, Embedding, EmbeddingSpaceError, Face, similarity

RIGHT, UP = np.array([2.0, 0.0], np.float32), np.array([0.0, 3.0], np.float32)


def face(vector: np.ndarray | None, space: str = "") -> Face:
    return Face(Box(0, 0, 1, 1), 0.5, embedding=vector, embedding_space=space)


def test_the_cosine_is_that_of_directions_whatever_the_lengths() -> None:
    assert similarity(RIGHT, RIGHT * 5) == pytest.approx(1)
    assert similarity(RIGHT, UP) == pytest.approx(0)
    assert similarity(RIGHT, -RIGHT) == pytest.approx(-1)
    assert similarity(face(RIGHT), Embedding(RIGHT + UP)) == pytest.approx(2 / 13**0.5)


def test_two_spaces_are_refused_and_both_are_named() -> None:
    with pytest.raises(EmbeddingSpaceError, match=r"first is of embedding space 'old' and second of 'new'"):
        similarity(Embedding(RIGHT, "old"), face(RIGHT, "new"))
    assert issubclass(EmbeddingSpaceError, ValueError)


def test_one_space_and_unknown_ones_are_compared() -> None:
    """A bare vector does not tell its space."""
    assert similarity(Embedding(RIGHT, "old"), face(RIGHT, "old")) == pytest.approx(1)
    assert similarity(Embedding(RIGHT, "old"), RIGHT) == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (face(None), "first is a face that was not embedded"),
        (np.ones((1, 2)), r"first has shape \[1, 2\]"),
        (np.ones(0), r"first has shape \[0\]"),
        (np.zeros(2), "first has no direction"),
        (np.array([np.nan, 1]), "first has no direction"),
        (np.ones(3), "first has 3 values and second 2"),
    ],
)
def test_what_has_no_direction_in_common_is_refused(first: Face | np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        similarity(first, RIGHT)
