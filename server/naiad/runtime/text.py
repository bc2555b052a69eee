"""BYTES elements to the texts that the engine's Python interface takes, and back without loss. Pure.

ONNX Runtime keeps any bytes in a string tensor, but its Python interface takes and gives `str` only. So a
byte that is not UTF-8 travels as a code point of its own at the very end of Unicode's private use plane, and
those code points themselves, should a text really have one, as their four bytes. Python's own
`surrogateescape` does the same with surrogates, which UTF-8 cannot carry into the engine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.core.tensors import Array

_SHIELD = 0x10FF00
"""Byte 0x80 + n travels as code point 0x10FF80 + n."""

_SHIELDED = re.compile(f"[{chr(_SHIELD + 0x80)}-{chr(_SHIELD + 0xFF)}]+")

_TO_SHIELD = re.compile(f"[\udc80-\udcff]+|{_SHIELDED.pattern}")


def to_texts(array: Array) -> Array:
    """Objects of `bytes` to objects of `str`, which `to_bytes` turns back into the same bytes."""
    texts = np.empty(array.size, dtype=np.object_)
    for index, element in enumerate(cast("Iterable[bytes]", array.ravel())):
        texts[index] = _text(element)
    return texts.reshape(array.shape)


def to_bytes(array: Array) -> Array:
    """Objects of `str`, as the engine gives them, to objects of `bytes`."""
    encoded = np.empty(array.size, dtype=np.object_)
    for index, text in enumerate(cast("Iterable[str]", array.ravel())):
        encoded[index] = text.encode() if text.isascii() else _bytes(text)
    return encoded.reshape(array.shape)


def _text(element: bytes) -> str:
    try:
        text = element.decode()
    except UnicodeDecodeError:
        # The surrogates that Python puts in place of wrong bytes are 0xDC00 + byte.
        text = _shield(element.decode(errors="surrogateescape"))
    else:
        if not text.isascii() and _SHIELDED.search(text):
            text = _shield(text)
    return text


def _shield(text: str) -> str:
    def shielded(match: re.Match[str]) -> str:
        raw = match.group().encode(errors="surrogateescape")
        return "".join(chr(_SHIELD + byte) for byte in raw)

    return _TO_SHIELD.sub(shielded, text)


def _bytes(text: str) -> bytes:
    pieces = []
    end = 0
    for match in _SHIELDED.finditer(text):
        pieces.append(text[end : match.start()].encode())
        pieces.append(bytes(ord(point) - _SHIELD for point in match.group()))
        end = match.end()
    pieces.append(text[end:].encode())
    return b"".join(pieces)
