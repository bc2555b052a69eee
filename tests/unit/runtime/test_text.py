"""BYTES through the engine's texts: every byte string comes back as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.runtime.text import to_bytes, to_texts

if TYPE_CHECKING:
    from naiad.core.tensors import Array


def objects(*elements: bytes | str) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


@given(st.lists(st.binary(max_size=12), max_size=4))
def test_any_bytes_come_back(elements: list[bytes]) -> None:
    assert to_bytes(to_texts(objects(*elements))).tolist() == elements


@given(st.text(alphabet=st.characters(min_codepoint=0x10FF70, max_codepoint=0x10FFFF)))
def test_texts_of_the_code_points_that_stand_for_bytes_come_back(text: str) -> None:
    element = text.encode()
    assert to_bytes(to_texts(objects(element))).tolist() == [element]


@pytest.mark.parametrize("text", ["", "plain", "größe", "漢字", "\x00a", "😀", "\U0010ff7f"])
def test_text_that_is_utf8_reaches_the_engine_as_it_is(text: str) -> None:
    assert to_texts(objects(text.encode())).tolist() == [text]


def test_the_engine_can_take_what_stands_for_wrong_bytes() -> None:
    shielded = to_texts(objects(b"\xff\xfeok\x80"))[0]
    assert isinstance(shielded, str)
    assert shielded.encode("utf-8")  # surrogates could not be encoded
    assert shielded[2:4] == "ok"


def test_shapes_are_kept() -> None:
    array = objects(*[b"a"] * 6).reshape(2, 3)
    assert to_bytes(to_texts(array)).shape == (2, 3)
