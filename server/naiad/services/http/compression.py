"""Compressed bodies: inflated within a limit, and deflated as the caller accepts it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.services.http.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Iterable

ENCODINGS = ("gzip", "deflate")
HEAVY_BYTES = 16_384
"""From this size on, compression is a thread's work; it gives its time to others while it runs."""

_GZIP, _ZLIB, _RAW = 31, 15, -15
_IN_STEP, _OUT_STEP = 65_536, 2**20
_LEVEL = 1  # tensors compress little; a higher level takes five times as long for some percent


def body_encoding(header: str) -> str:
    """How a body is compressed; "" if it is not.

    Raises:
        EncodingError: in a way that is not served.
    """
    if header in ("", "identity"):
        return ""
    if header not in ENCODINGS:
        raise EncodingError("Unsupported compression type")
    return header


def accepted_encoding(header: str) -> str:
    """The encoding that an Accept-Encoding header likes best of those served; "" for none."""
    best, best_weight = "", 0.0
    for entry in header.split(","):
        name, _, quality = entry.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if name in (*ENCODINGS, "identity") and weight > best_weight:
            best, best_weight = name, weight
    return "" if best == "identity" else best


def inflate(data: bytes | bytearray, encoding: str, limit: int) -> bytearray:
    """A compressed body as it was.

    Raises:
        InvalidArgumentError: it is longer than `limit` bytes, or not what `encoding` says.
    """
    if not data:
        raise InvalidArgumentError("nothing to be decompressed")
    inflater = zlib.decompressobj(_window(data, encoding))
    body = bytearray()
    view = memoryview(data)
    try:
        for start in range(0, len(data), _IN_STEP):
            _inflate_step(inflater, view[start : start + _IN_STEP], body, limit)
    except zlib.error as error:
        raise InvalidArgumentError(f"the request's body is no {encoding} data: {error}") from None
    if not inflater.eof:
        raise InvalidArgumentError(f"the request's {encoding} body is cut short")
    if inflater.unused_data:
        raise InvalidArgumentError(f"unexpected data after the request's {encoding} body")
    return body


def _inflate_step(inflater: zlib._Decompress, piece: memoryview | bytes, body: bytearray, limit: int) -> None:
    if inflater.eof:
        raise InvalidArgumentError("unexpected data after the request's compressed body")
    is_full = True
    # A step that fills its room may leave more inside, though all of the input is taken.
    while (piece or is_full) and not inflater.eof:
        room = min(_OUT_STEP, limit + 1 - len(body))
        inflated = inflater.decompress(piece, room)
        body += inflated
        if len(body) > limit:
            raise decompressed_too_large(limit)
        piece, is_full = inflater.unconsumed_tail, len(inflated) == room


def decompressed_too_large(limit: int) -> InvalidArgumentError:
    """The error for a compressed body that holds too much."""
    return InvalidArgumentError(
        f"Decompressed data size exceeds the maximum allowed value of {limit} bytes. "
        "Use --http-max-input-size to increase the limit."
    )


def _window(data: bytes | bytearray, encoding: str) -> int:
    if encoding == "gzip":
        return _GZIP
    # "deflate" means zlib's format, and some callers send the bare stream: a zlib header tells them apart.
    is_zlib = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _ZLIB if is_zlib else _RAW


def deflate(parts: Iterable[bytes | memoryview], encoding: str) -> bytes:
    """A body compressed."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    return b"".join([*(deflater.compress(part) for part in parts), deflater.flush()])
