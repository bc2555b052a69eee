"""Bytes to pixels: each format decodes upright and in BGR, all else is refused with its reason."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError, NaiadError, ResourceExhaustedError
from naiad.vision.images import ImageLimits, decode_image, decode_reduced
from naiad.vision.transform import Origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from naiad.vision.arrays import Pixels


UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}
"""What shows a picture that was stored with each EXIF orientation upright."""


def encode(suffix: str, image: npt.NDArray[np.uint8 | np.uint16], *parameters: int) -> bytes:
    done, data = cv2.imencode(suffix, image, parameters)
    assert done
    return bytes(data)


def opaque(image: Pixels) -> Pixels:
    """With a fourth channel that hides nothing."""
    return np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def orientation_tiff(orientation: int) -> bytes:
    """EXIF data of one entry."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF segment of one entry after its start marker."""
    content = b"Exif\0\0" + orientation_tiff(orientation)
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


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_turns_the_picture_upright(
    orientation: int, photo: Pixels, limits: ImageLimits
) -> None:
    jpeg = encode(".jpg", photo)
    upright = UPRIGHT[orientation](decode_image(jpeg, limits))
    np.testing.assert_array_equal(decode_image(with_exif_orientation(jpeg, orientation), limits), upright)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(
    orientation: int, photo: Pixels, limits: ImageLimits
) -> None:
    jpeg = encode(".jpg", photo)
    decoded = decode_image(with_exif_orientation(jpeg, orientation), limits)
    np.testing.assert_array_equal(decoded, decode_image(jpeg, limits))


def test_an_orientation_counts_in_png_too(photo: Pixels, limits: ImageLimits) -> None:
    png = encode(".png", photo)
    turned = png[:33] + chunk(b"eXIf", orientation_tiff(6)) + png[33:]
    np.testing.assert_array_equal(decode_image(turned, limits), UPRIGHT[6](photo))


def ycck_jpeg(image: Pixels) -> bytes:
    """The picture as luminance, colour differences and no black, as Adobe's programs write it."""
    pillow = pytest.importorskip("PIL.Image")
    luminance, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb))
    # Adobe stores ink upside down, so the picture is a negative. Pillow turns what it is given once more.
    planes = [luminance, blue, red, np.zeros_like(luminance)]
    file = io.BytesIO()
    merged = pillow.frombytes("CMYK", image.shape[1::-1], np.dstack(planes).tobytes())
    merged.save(file, "JPEG", quality=95)
    data = file.getvalue()
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    return data[:at] + b"\x02" + data[at + 1 :]


def cmyk_jpeg(image: Pixels) -> bytes:
    """The picture as cyan, magenta, yellow and black."""
    pillow = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    rgb = np.ascontiguousarray(image[..., ::-1])
    pillow.fromarray(rgb).convert("CMYK").save(file, "JPEG", quality=95)
    return file.getvalue()


KINDS: dict[str, tuple[Callable[[Pixels], bytes], float]] = {
    "lossy WebP": (lambda image: encode(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 95), 4),
    "lossless WebP": (lambda image: encode(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101), 0),
    "WebP with alpha": (lambda image: encode(".webp", opaque(image), cv2.IMWRITE_WEBP_QUALITY, 95), 4),
    "progressive JPEG": (lambda image: encode(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), 3),
    "JPEG with restarts": (lambda image: encode(".jpg", image, cv2.IMWRITE_JPEG_RST_INTERVAL, 2), 3),
    "CMYK JPEG": (cmyk_jpeg, 4),
    "YCCK JPEG": (ycck_jpeg, 4),
    "16-bit PNG with alpha": (lambda image: encode(".png", opaque(image).astype(np.uint16) * 257), 0),
    "BMP with alpha": (lambda image: encode(".bmp", opaque(image)), 0),
}
"""What each kind of file is made by, and how far its pixels may be from the picture's on average."""


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_shows_the_same_picture(kind: str, photo: Pixels, limits: ImageLimits) -> None:
    make, tolerance = KINDS[kind]
    assert mean_difference(decode_image(make(photo), limits), photo) <= tolerance


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_a_grey_file_becomes_three_equal_channels(suffix: str, photo: Pixels, limits: ImageLimits) -> None:
    decoded = decode_image(encode(suffix, photo[..., 0]), limits)
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 1])
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2])


def shrunk(image: Pixels, factor: int) -> Pixels:
    """The mean of each group of pixels."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    groups = image.reshape(height, factor, width, factor, 3)
    means: Pixels = groups.mean(axis=(1, 3)).round().astype(np.uint8)
    return means


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_reduced_jpeg_is_the_upright_picture_at_a_smaller_scale(
    orientation: int, factor: int, photo: Pixels, limits: ImageLimits
) -> None:
    stored = np.ascontiguousarray(photo[:56, :88])
    jpeg = with_exif_orientation(encode(".jpg", stored), orientation)
    pixels, origin = decode_reduced(jpeg, limits, lambda _width, _height: factor)
    upright = UPRIGHT[orientation](stored)
    assert origin == Origin(upright.shape[1], upright.shape[0], factor)
    assert mean_difference(pixels, shrunk(upright, factor)) < 3


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_reduced_side_is_rounded_up(factor: int, photo: Pixels, limits: ImageLimits) -> None:
    """The last pixel stands for a part of a group: the whole group is the edge repeated."""
    stored = np.ascontiguousarray(photo[:57, :83])
    pixels, origin = decode_reduced(encode(".jpg", stored), limits, lambda _width, _height: factor)
    assert origin == Origin(83, 57, factor)
    padded = np.pad(stored, ((0, -57 % factor), (0, -83 % factor), (0, 0)), mode="edge")
    assert mean_difference(pixels, shrunk(padded, factor)) < 3


@pytest.mark.parametrize(("size", "reduction"), [((88, 56), 8), ((88, 60), 4), ((90, 56), 2), ((89, 56), 1)])
def test_a_picture_that_may_be_turned_is_reduced_only_as_far_as_its_sides_divide(
    size: tuple[int, int], reduction: int, photo: Pixels, limits: ImageLimits
) -> None:
    """A part of a group would be at the other end after turning, and boxes would be off by it."""
    stored = np.ascontiguousarray(photo[: size[1], : size[0]])
    turned = with_exif_orientation(encode(".jpg", stored), 6)
    _, origin = decode_reduced(turned, limits, lambda _width, _height: 8)
    assert origin == Origin(size[1], size[0], reduction)


def test_only_jpegs_are_asked_whether_they_may_be_reduced(photo: Pixels, limits: ImageLimits) -> None:
    for suffix in (".png", ".bmp", ".webp"):
        pixels, origin = decode_reduced(encode(suffix, photo), limits, lambda _width, _height: 8)
        assert pixels.shape == photo.shape
        assert origin == Origin(90, 60, 1)


def test_limits_count_the_pixels_of_the_whole_picture(photo: Pixels) -> None:
    data = encode(".jpg", photo)
    with pytest.raises(ResourceExhaustedError, match="90x60 = 5400 pixels"):
        decode_reduced(data, ImageLimits(len(data), 5399), lambda _width, _height: 8)


def test_a_jpeg_with_missing_pixels_is_refused_rather_than_filled_with_grey(limits: ImageLimits) -> None:
    """Its markers are all there; only the decoder notices that the scan ends too early."""
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(".jpg", noise)
    cut = data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9"
    with pytest.raises(
        InvalidArgumentError, match=r"damaged JPEG: some of its pixels are missing \(premature end"
    ):
        decode_image(cut, limits)


def test_a_png_with_a_wrong_checksum_is_refused_with_the_decoders_reason(
    photo: Pixels, limits: ImageLimits
) -> None:
    data = bytearray(encode(".png", photo))
    data[-14] ^= 1  # the checksum of the last IDAT chunk
    with pytest.raises(InvalidArgumentError, match=r"could not read its 90x60 pixels .* \(IDAT: CRC error\)"):
        decode_image(bytes(data), limits)


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
