"""Bytes to pixels: each format decodes upright and in BGR, all else is refused with its reason."""

from __future__ import annotations

import contextlib
import struct
import time
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError, NaiadError, ResourceExhaustedError
from naiad.vision.images import ImageLimits, PixelFormat, decode_image, raw_image

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.vision.arrays import Pixels


def encode(suffix: str, image: Pixels) -> bytes:
    done, data = cv2.imencode(suffix, image)
    assert done
    return bytes(data)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF segment of one entry after its start marker."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    content = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def mean_difference(left: Pixels, right: Pixels) -> float:
    assert left.shape == right.shape
    return float(np.abs(left.astype(int) - right).mean())


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".bmp", 0), (".jpg", 3), (".webp", 4)])
def test_each_format_decodes_to_the_same_bgr_pixels(
    suffix: str, tolerance: float, photo: Pixels, limits: ImageLimits
) -> None:
    decoded = decode_image(encode(suffix, photo), limits)
    assert decoded.dtype == np.uint8
    assert mean_difference(decoded, photo) <= tolerance


def test_a_memoryview_is_decoded_as_its_bytes_are(photo: Pixels, limits: ImageLimits) -> None:
    data = encode(".png", photo)
    padded = memoryview(b"xx" + data)[2:]
    np.testing.assert_array_equal(decode_image(padded, limits), photo)


def test_transparency_is_dropped_and_the_colour_below_it_kept(photo: Pixels, limits: ImageLimits) -> None:
    alpha = np.zeros(photo.shape[:2], np.uint8)
    decoded = decode_image(encode(".png", np.dstack([photo, alpha])), limits)
    np.testing.assert_array_equal(decoded, photo)


def test_grey_becomes_three_equal_channels(photo: Pixels, limits: ImageLimits) -> None:
    decoded = decode_image(encode(".png", photo[..., 0]), limits)
    np.testing.assert_array_equal(decoded, np.repeat(photo[..., :1], 3, axis=2))


def test_sixteen_bits_become_eight(photo: Pixels, limits: ImageLimits) -> None:
    done, data = cv2.imencode(".png", photo.astype(np.uint16) * 257)
    assert done
    np.testing.assert_array_equal(decode_image(bytes(data), limits), photo)


@pytest.mark.parametrize(
    ("orientation", "rotation"),
    [(3, cv2.ROTATE_180), (6, cv2.ROTATE_90_CLOCKWISE), (8, cv2.ROTATE_90_COUNTERCLOCKWISE)],
)
def test_exif_orientation_turns_the_picture_upright(
    orientation: int, rotation: int, photo: Pixels, limits: ImageLimits
) -> None:
    jpeg = encode(".jpg", photo)
    upright: Pixels = cv2.rotate(decode_image(jpeg, limits), rotation)
    np.testing.assert_array_equal(decode_image(with_exif_orientation(jpeg, orientation), limits), upright)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused_as_truncated(
    suffix: str, part: float, photo: Pixels, limits: ImageLimits
) -> None:
    data = encode(suffix, np.tile(photo, (4, 4, 1)))
    with pytest.raises(InvalidArgumentError, match="image is a truncated"):
        decode_image(data[: int(len(data) * part)], limits)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp"])
def test_bytes_after_the_end_of_a_picture_do_no_harm(suffix: str, photo: Pixels, limits: ImageLimits) -> None:
    assert decode_image(encode(suffix, photo) + b"\0" * 50, limits).shape == photo.shape


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "image is empty: 0 bytes"),
        (b"hello, world\n" * 9, "unknown format: its 117 bytes start with 68 65 6c"),
        (b"GIF89a" + bytes(60), "known formats are JPEG, PNG, WebP, BMP"),
        (b"BM", "truncated BMP"),
        (b"BM" + b"\xff" * 100, "damaged BMP"),
        (b"RIFF\xff\0\0\0WEBPALPH" + bytes(60), "damaged WebP"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "damaged PNG"),
        (b"\xff\xd8\xff\xd9" + bytes(60), "damaged JPEG"),
        (b"\xff\xd8\xff", "truncated JPEG"),
        (b"\xff\xd8\xff\xda\0\x08" + bytes(20) + b"\xff\xd9", "no frame header"),
        (b"\xff\xd8" + b"\xff\xe0\0\x02" * 5000, "more than 2000 segments"),
        (png_header(0, 5), "header says 0x5"),
        (png_header(5, 5), "damaged PNG: the decoder"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_sentence_that_says_why(
    data: bytes, words: str, limits: ImageLimits
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        decode_image(data, limits)


def test_a_header_that_announces_too_many_pixels_is_refused_before_decoding(limits: ImageLimits) -> None:
    start = time.thread_time()
    with pytest.raises(ResourceExhaustedError) as refused:
        decode_image(png_header(30_000, 30_000), limits)
    assert time.thread_time() - start < 0.1  # decoding would clear 2.7 GB
    for word in ("30000x30000", "900000000", "40000000", "--max-image-pixels"):
        assert word in refused.value.message


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp"])
def test_the_pixel_limit_holds_for_each_format_to_the_pixel(suffix: str, photo: Pixels) -> None:
    data = encode(suffix, photo)
    assert decode_image(data, ImageLimits(len(data), 5400)).shape == photo.shape
    with pytest.raises(ResourceExhaustedError, match="90x60 = 5400 pixels, the limit is 5399"):
        decode_image(data, ImageLimits(len(data), 5399))


def test_too_many_bytes_are_refused_with_the_flag_named(photo: Pixels) -> None:
    data = encode(".png", photo)
    with pytest.raises(ResourceExhaustedError, match=rf"{len(data)} bytes.* 100 \(--max-image-bytes\)"):
        decode_image(data, ImageLimits(100, 10_000))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp"])
def test_damaged_files_raise_nothing_but_the_domains_errors(suffix: str, photo: Pixels) -> None:
    rng = np.random.default_rng(7)
    original = np.frombuffer(encode(suffix, photo), np.uint8)
    for _ in range(150):
        data = original.copy()
        reach = 60 if rng.random() < 0.6 else len(data)  # mostly within the header
        where = rng.integers(2, reach, rng.integers(1, 6))
        data[where] = rng.integers(0, 256, len(where))
        with contextlib.suppress(NaiadError):
            decoded = decode_image(data.tobytes(), ImageLimits(1_000_000, 1_000_000))
            assert decoded.ndim == 3


@pytest.mark.parametrize("pixel_format", PixelFormat)
@pytest.mark.parametrize("padding", [0, 5])
def test_raw_pixels_arrive_as_bgr_whatever_their_order_and_stride(
    pixel_format: PixelFormat, padding: int, photo: Pixels, limits: ImageLimits
) -> None:
    stored = {"BGR": photo, "RGB": photo[..., ::-1], "GRAY": photo[..., :1]}[pixel_format.name]
    expected = np.repeat(stored, 3, axis=2) if pixel_format is PixelFormat.GRAY else photo
    rows = stored.reshape(60, -1)
    data = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    stride = rows.shape[1] + padding
    for received in (data, data[: len(data) - padding]):  # the last row's padding is optional
        image = raw_image(received, pixel_format, 90, 60, stride if padding else 0, limits)
        np.testing.assert_array_equal(image, expected)


def test_raw_bgr_is_viewed_not_copied(photo: Pixels, limits: ImageLimits) -> None:
    data = photo.tobytes()
    image = raw_image(data, PixelFormat.BGR, 90, 60, 0, limits)
    assert np.shares_memory(image, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("size", "shape", "stride", "words"),
    [
        (299, (10, 10), 0, "has 299 bytes, 10x10 BGR pixels with a stride of 30 bytes need 300"),
        (301, (10, 10), 0, "has 301 bytes"),
        (300, (10, 10), 29, "stride of 29 bytes, 10 pixels of 3 bytes need at least 30"),
        (300, (0, 10), 0, "0x10"),
        (0, (10, 10), 0, "empty"),
    ],
)
def test_raw_sizes_that_contradict_each_other_are_refused(
    size: int, shape: tuple[int, int], stride: int, words: str, limits: ImageLimits
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        raw_image(bytes(size), PixelFormat.BGR, *shape, stride, limits)


def test_raw_pixels_obey_the_limits() -> None:
    with pytest.raises(ResourceExhaustedError, match="--max-image-pixels"):
        raw_image(bytes(300), PixelFormat.BGR, 10, 10, 0, ImageLimits(300, 99))
    with pytest.raises(ResourceExhaustedError, match="--max-image-bytes"):
        raw_image(bytes(300), PixelFormat.BGR, 10, 10, 0, ImageLimits(299, 100))


@pytest.mark.assets
def test_real_variants_of_one_photo_decode_alike(assets: Path, limits: ImageLimits) -> None:
    """Palette, CMYK, progressive, 16 bits, transparent and rotated files all show the base picture."""
    folder = assets / "images" / "variants"
    base = decode_image((folder / "ob_base.png").read_bytes(), limits)
    tolerances = {"ob_grey": 25.0, "ob_palette": 8.0}
    seen = 0
    for path in sorted(folder.iterdir()):
        if path.stem != "ob_truncated":
            decoded = decode_image(path.read_bytes(), limits)
            assert mean_difference(decoded, base) < tolerances.get(path.stem, 4.0), path.name
            seen += 1
    assert seen == 12


@pytest.mark.assets
def test_a_real_broken_upload_is_called_truncated(assets: Path, limits: ImageLimits) -> None:
    data = (assets / "images" / "variants" / "ob_truncated.jpg").read_bytes()
    with pytest.raises(InvalidArgumentError, match="truncated JPEG: no end-of-image marker"):
        decode_image(data, limits)
