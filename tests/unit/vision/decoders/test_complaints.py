"""What libjpeg and libpng say reaches the thread that decodes and nobody else."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.vision.decoders.complaints import complaints, first_line

if TYPE_CHECKING:
    import pytest


def bad_jpeg() -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    data = bytes(cv2.imencode(".jpg", noise)[1])
    return data[: len(data) // 2] + b"\xff\xd9"


def bad_png() -> bytes:
    data = bytearray(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1])
    data[-14] ^= 1
    return bytes(data)


def heard(data: bytes) -> str:
    with complaints() as text:
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return first_line(text)


def test_a_decoders_complaint_is_heard_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert heard(bad_jpeg()) == "premature end of data segment"
    assert heard(bad_png()) == "IDAT: CRC error"
    assert capfd.readouterr().err == ""


def test_each_thread_hears_of_its_own_picture_alone() -> None:
    """All are within their blocks at once."""
    barrier = Barrier(4)
    good = bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1])

    def work(data: bytes) -> str:
        with complaints() as text:
            barrier.wait()
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            barrier.wait()
        return first_line(text)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, [bad_jpeg(), good, bad_png(), good]))
    assert found == ["premature end of data segment", "", "IDAT: CRC error", ""]


def test_what_others_write_to_stderr_still_arrives(capfd: pytest.CaptureFixture[str]) -> None:
    assert heard(bad_png())
    ctypes.CDLL(None).perror(b"from elsewhere")
    os.write(2, b"and from Python\n")
    printed = capfd.readouterr().err
    assert "from elsewhere: " in printed
    assert "and from Python" in printed


def test_what_is_kept_of_one_picture_is_bounded() -> None:
    with complaints() as text:
        for _ in range(1000):
            ctypes.CDLL(None).perror(b"again")
    assert 0 < len(text) <= 2000
