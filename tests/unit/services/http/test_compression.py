"""Compressed bodies: both ways, within a limit, and refused when they are not what they say."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.services.http.compression import accepted_encoding, body_encoding, deflate, inflate

TEXT = random.Random(5).randbytes(300_000) + b"a" * 3_000_000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT)), ("deflate", raw_deflate(TEXT))],
)
def test_a_body_is_inflated_up_to_exactly_the_limit(encoding: str, packed: bytes) -> None:
    assert inflate(packed, encoding, len(TEXT)) == TEXT
    with pytest.raises(
        InvalidArgumentError, match="Decompressed data size exceeds the maximum allowed value of"
    ):
        inflate(packed, encoding, len(TEXT) - 1)
    with pytest.raises(InvalidArgumentError, match="cut short"):
        inflate(packed[:-10], encoding, len(TEXT))
    with pytest.raises(InvalidArgumentError, match="unexpected data after"):
        inflate(packed + b"x", encoding, len(TEXT))


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    """A megabyte that would be a gigabyte."""
    bomb = gzip.compress(bytes(2**30 // 8), compresslevel=9)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgumentError, match="--http-max-input-size"):
            inflate(bomb, "gzip", 2**20)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [b"x" * 100, gzip.compress(TEXT)[:50] + b"\0" * 500])
def test_what_is_not_compressed_is_refused(packed: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=r"is no gzip data|cut short"):
        inflate(packed, "gzip", 2**20)
    with pytest.raises(InvalidArgumentError, match="nothing to be decompressed"):
        inflate(b"", "gzip", 2**20)


def test_only_gzip_and_deflate_are_served() -> None:
    assert [body_encoding(each) for each in ("", "identity", "gzip", "deflate")] == [
        "",
        "",
        "gzip",
        "deflate",
    ]
    with pytest.raises(UnsupportedError, match="Unsupported compression type"):
        body_encoding("br")


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("", ""), ("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate", "gzip"), ("br, deflate", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"), ("gzip;q=0", ""), ("identity, gzip;q=0.5", ""),
        ("gzip;q=x", ""), ("*", ""), ("  gzip", "gzip"),
    ],
)  # fmt: skip
def test_the_encoding_that_the_caller_likes_best_is_taken(header: str, encoding: str) -> None:
    assert accepted_encoding(header) == encoding


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_answer_is_compressed_in_parts(encoding: str) -> None:
    packed = deflate([b"abc", memoryview(TEXT)], encoding)
    unpack = gzip.decompress if encoding == "gzip" else zlib.decompress
    assert unpack(packed) == b"abc" + TEXT
