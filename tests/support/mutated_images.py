"""Decodes mutated picture files for a while and says, as JSON, what came of it; run as a process of its own.

`python -m support.mutated_images SECONDS` from tests/: the peak of the process's address space counts what the
decoders reserve, touched or not, and stderr stays free for what they should not say.
"""

from __future__ import annotations

import json
import struct
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.vision.images import ImageLimits, decode_reduced

if TYPE_CHECKING:
    from naiad.vision.arrays import Pixels

LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=1_000_000)
SEED = 20_240_229


def originals() -> list[bytes]:
    """One small file of each kind."""
    rows, columns = np.mgrid[:60, :90]
    image = np.stack([columns * 2, rows * 4, 255 - columns - rows], axis=-1).astype(np.uint8)
    alpha = np.dstack([image, image[..., 0]])
    kinds: list[tuple[str, Pixels, list[int]]] = [
        (".jpg", image, []),
        (".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".jpg", image[..., 0], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
        (".png", alpha, []),
        (".png", image[..., 0], [cv2.IMWRITE_PNG_BILEVEL, 1]),
        (".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 80]),
        (".webp", alpha, [cv2.IMWRITE_WEBP_QUALITY, 80]),
        (".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101]),
        (".bmp", image, []),
        (".bmp", alpha, []),
    ]
    files = [cv2.imencode(suffix, pixels, options)[1].tobytes() for suffix, pixels, options in kinds]
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    turned = files[0][:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + files[0][2:]
    return [*files, turned]


def bombs(jpeg: bytes, png: bytes, lossless_webp: bytes) -> dict[str, bytes]:
    """Files whose header is small and honest, and which later ask for much more."""
    frame = jpeg.index(b"\xff\xc0")
    length = 2 + int.from_bytes(jpeg[frame + 2 : frame + 4], "big")
    larger = bytearray(jpeg[frame : frame + length])
    larger[5:9] = struct.pack(">HH", 60_000, 60_000)
    inflated = zlib.compress(bytes(100_000_000), 9)
    size = struct.pack(">II", 60_000, 60_000) + png[24:29]
    inner = bytearray(lossless_webp[12:])
    inner[9:13] = struct.pack("<I", 16_382 | 16_382 << 14)
    canvas = struct.pack("<4sI4x", b"VP8X", 10) + bytes([89, 0, 0, 59, 0, 0])
    return {
        "a second frame header of a JPEG": jpeg[: frame + length] + bytes(larger) + jpeg[frame + length :],
        "a second header of a PNG": png[:33] + _chunk(b"IHDR", size) + png[33:],
        "a text of a PNG": png[:33] + _chunk(b"zTXt", b"Comment\0\0" + inflated) + png[33:],
        "a profile of a PNG": png[:33] + _chunk(b"iCCP", b"icc\0\0" + inflated) + png[33:],
        "pixels of a PNG": png[:33] + _chunk(b"IDAT", inflated) + _chunk(b"IEND", b""),
        "a picture larger than the WebP's canvas": b"RIFF"
        + struct.pack("<I", 4 + len(canvas) + len(inner))
        + b"WEBP"
        + canvas
        + bytes(inner),
    }


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with bytes changed (mostly in its head), removed, repeated, or its end cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        reach = min(len(changed), 80 if rng.random() < 0.5 else len(changed))
        if reach < 4:
            break
        at = int(rng.integers(2, reach))
        kind = rng.integers(0, 8)
        if kind == 0:
            del changed[at : at + int(rng.integers(1, 9))]
        elif kind == 1:
            changed[at:at] = changed[at : at + int(rng.integers(1, 65))]
        elif kind == 2:
            del changed[at + 60 :]
        elif kind == 3:
            changed[at : at + 4] = b"\xff\xff\xff\x7f"[: int(rng.integers(1, 5))]
        else:
            changed[at] = int(rng.integers(0, 256))
    return _with_checksums(changed) if data[1:4] == b"PNG" else bytes(changed)


def _with_checksums(png: bytearray) -> bytes:
    """Chunks whose checksum is right, else no mutation would get past it."""
    at = 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        end = at + 8 + length
        if end + 4 > len(png):
            break
        struct.pack_into(">I", png, end, zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return bytes(png)


def peak_kib() -> int:
    """The largest that the process's address space has been."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmPeak:")[2].split()[0])


def decode(data: bytes, reduction: int) -> str:
    """What became of it; anything but the domain's two errors ends the process."""
    try:
        pixels, origin = decode_reduced(data, LIMITS, lambda _width, _height: reduction)
    except InvalidArgumentError as error:
        return error.message.partition(":")[0][:24]
    except ResourceExhaustedError:
        return "over a limit"
    assert origin.width * origin.height <= LIMITS.max_pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    return "decoded"


def main() -> None:
    """Mutate and decode until the time is over."""
    seconds = float(sys.argv[1])
    rng = np.random.default_rng(SEED)
    files = originals()
    for data in files:
        assert decode(data, 1) == "decoded"
    hostile = bombs(files[0], files[3], files[7])
    before_kib = peak_kib()
    survived = {name: [decode(data, 1), peak_kib() - before_kib] for name, data in hostile.items()}
    answers: Counter[str] = Counter()
    slowest = 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(files[int(rng.integers(len(files)))], rng)
        started = time.thread_time()
        answers[decode(data, int(rng.choice([1, 2, 4, 8])))] += 1
        slowest = max(slowest, time.thread_time() - started)
    report = {
        "bombs": survived,
        "answers": answers,
        "slowest_s": slowest,
        "grown_kib": peak_kib() - before_kib,
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
