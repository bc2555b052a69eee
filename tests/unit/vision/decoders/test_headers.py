"""Headers by hand: the sizes that encoders at hand never write."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.vision.decoders import bmp, format_of, jpeg, png, webp
from naiad.vision.images import ImageLimits, decode_image


def size_of(data: bytes) -> tuple[int, int]:
    header = format_of(memoryview(data)).read_header(memoryview(data))
    return header.width, header.height


def riff(kind: bytes, content: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def test_webp_size_is_read_from_each_of_its_three_first_chunks() -> None:
    lossy = riff(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 1000 | 0x4000, 700))
    lossless = riff(b"VP8L", b"\x2f" + struct.pack("<I", (1000 - 1) | (700 - 1) << 14) + bytes(9))
    extended = riff(b"VP8X", bytes(4) + (99_999).to_bytes(3, "little") + (699).to_bytes(3, "little"))
    assert size_of(lossy) == (1000, 700)
    assert size_of(lossless) == (1000, 700)
    assert size_of(extended) == (100_000, 700)


def test_webp_shorter_than_its_container_says_is_truncated() -> None:
    data = memoryview(riff(b"VP8X", bytes(10)))
    webp.FORMAT.check_complete(data, webp.FORMAT.read_header(data))
    with pytest.raises(InvalidArgumentError, match="announces 30 bytes, 29 were"):
        webp.FORMAT.check_complete(data[:-1], webp.FORMAT.read_header(data))


def test_bmp_size_is_read_from_old_and_upside_down_headers() -> None:
    core = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 5, 7, 1, 24) + bytes(20)
    top_down = b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 5, -7, 1, 24, 0) + bytes(20)
    assert size_of(core) == (5, 7)
    assert size_of(top_down) == (5, 7)


def test_bmp_with_a_missing_row_is_truncated() -> None:
    header = (
        b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + struct.pack("<IiiHHI", 40, 5, 7, 1, 24, 0) + bytes(20)
    )
    whole = memoryview(header + bytes(16 * 7))
    bmp.FORMAT.check_complete(whole, bmp.FORMAT.read_header(whole))
    with pytest.raises(InvalidArgumentError, match="5x7 pixels of 24 bits need 166 bytes, 165 were"):
        bmp.FORMAT.check_complete(whole[:-1], bmp.FORMAT.read_header(whole))


def test_jpeg_walk_skips_fill_bytes_stray_bytes_and_tables_as_libjpeg_does() -> None:
    table = b"\xff\xc4\0\x04\xff\xc0"  # a table whose content looks like a frame header's marker
    frame = b"\xff\xff\xff\xc2" + struct.pack(">HBHHB", 8, 8, 600, 800, 0)
    assert size_of(b"\xff\xd8\xff\xe0\0\x02stray" + table + frame) == (800, 600)


def test_jpeg_end_marker_within_a_table_before_the_scan_does_not_count_as_its_end() -> None:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 8, 8, 6, 8, 0)
    comment = b"\xff\xfe\0\x04\xff\xd9"
    scan = b"\xff\xda\0\x02abc"
    data = memoryview(b"\xff\xd8" + frame + comment + scan)
    with pytest.raises(InvalidArgumentError, match="no end-of-image marker in the 3 bytes"):
        jpeg.FORMAT.check_complete(data, jpeg.FORMAT.read_header(data))
    whole = memoryview(bytes(data) + b"\xff\xd9")
    jpeg.FORMAT.check_complete(whole, jpeg.FORMAT.read_header(whole))


def test_jpeg_of_very_many_scans_is_refused() -> None:
    """A scan may take a few bytes of the file, and a pass over the whole picture to decode."""
    frame = b"\xff\xd8\xff\xc2" + struct.pack(">HBHHB", 8, 8, 6, 8, 0)
    scan = b"\xff\xda\0\x02abc"
    usual = memoryview(frame + scan * 100 + b"\xff\xd9")
    jpeg.FORMAT.check_complete(usual, jpeg.FORMAT.read_header(usual))
    many = memoryview(frame + scan * 101 + b"\xff\xd9")
    with pytest.raises(InvalidArgumentError, match="more than 100 scans"):
        jpeg.FORMAT.check_complete(many, jpeg.FORMAT.read_header(many))


def test_jpeg_whose_one_scan_has_everything_is_not_searched_for_others() -> None:
    """The decoder takes no scan after it: a thousand more cost nothing, and change nothing."""
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data: bytes = cv2.imencode(".jpg", picture)[1].tobytes()
    start = data.index(b"\xff\xda")
    again = data[:-2] + data[start:-2] * 1_000 + b"\xff\xd9"
    jpeg.FORMAT.check_complete(memoryview(again), jpeg.FORMAT.read_header(memoryview(again)))
    limits = ImageLimits(10**9, 10**9)
    assert np.array_equal(decode_image(again, limits), decode_image(data, limits))


def test_jpeg_whose_first_scan_lacks_a_component_may_have_many() -> None:
    frame = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 6, 8, 3) + bytes(9)
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes(5)
    many = memoryview(frame + scan * 101 + b"\xff\xd9")
    with pytest.raises(InvalidArgumentError, match="more than 100 scans"):
        jpeg.FORMAT.check_complete(many, jpeg.FORMAT.read_header(many))


def test_jpeg_end_is_found_before_anything_that_a_camera_adds() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    data = memoryview(cv2.imencode(".jpg", picture)[1].tobytes() + bytes(5_000))
    jpeg.FORMAT.check_complete(data, jpeg.FORMAT.read_header(data))


def test_png_chunk_that_claims_more_than_the_file_holds_is_refused_before_decoding() -> None:
    """The decoder would set aside gigabytes for it."""
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 5, 7, 8, 2, 0, 0, 0, 0)
    end = struct.pack(">I4sI", 0, b"IEND", 0)
    chunk = struct.pack(">I4sI", 0, b"IDAT", 0)
    whole = memoryview(header + chunk + end)
    png.FORMAT.check_complete(whole, png.FORMAT.read_header(whole))
    lying = memoryview(header + struct.pack(">I4sI", 0x7FFFFFFF, b"IDAT", 0) + end)
    with pytest.raises(InvalidArgumentError, match="of 2147483647 bytes ends at byte 2147483692, 57 were"):
        png.FORMAT.check_complete(lying, png.FORMAT.read_header(lying))
    many = memoryview(header + chunk * 65_536 + end)
    with pytest.raises(InvalidArgumentError, match="more than 65536 chunks"):
        png.FORMAT.check_complete(many, png.FORMAT.read_header(many))
