"""A picture that goes its whole way on an instance's thread: the same faces, and nobody else's errors."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from support.repositories import add_model
from support.servers import server
from support.vision_models import QUARTERS_CONFIG, quarters_detector

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.dataplane import DataPlane
from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.faces import EncodedImage, FacePlane
from naiad.dataplane.faces.one_run import MAX_FILE_BYTES
from naiad.vision.images import ImageLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.dataplane.faces import DetectAnswer

CONFIG = f"{QUARTERS_CONFIG}\ninstance_group {{ count: 2 kind: KIND_CPU }}\n"


def file(value: int, side: int = 200, extension: str = ".png") -> EncodedImage:
    pixels = np.full((side, side, 3), value, np.uint8)
    return EncodedImage(cv2.imencode(extension, pixels)[1].tobytes())


@asynccontextmanager
async def planes(folder: Path, *, decode_threads: int = 2) -> AsyncIterator[FacePlane]:
    add_model(folder, "quarters", quarters_detector(), CONFIG)
    pool = DecodePool(decode_threads, max_pending=64)
    try:
        async with server(folder, allow_grpc=False) as running:
            yield FacePlane(DataPlane(running.manager), pool, ImageLimits(10**8, 10**6))
    finally:
        pool.close()


def faces(answer: DetectAnswer) -> tuple[object, ...]:
    found = answer.detections
    marks = None if found.landmarks is None else found.landmarks.tolist()
    return found.boxes.tolist(), found.scores.tolist(), marks, answer.image_width, answer.image_height


async def test_faces_are_those_of_the_way_through_the_pool(tmp_path: Path) -> None:
    """With more decode threads than instances a picture goes through the pool."""
    pictures = [file(value, side) for value, side in ((10, 200), (90, 64), (200, 333))]
    async with planes(tmp_path / "whole") as whole:
        direct = [await whole.detect("", None, picture) for picture in pictures]
    async with planes(tmp_path / "pooled", decode_threads=3) as pooled:
        handed = [await pooled.detect("", None, picture) for picture in pictures]
    assert [answer.times.is_one_run for answer in (*direct, *handed)] == [True] * 3 + [False] * 3
    assert [faces(answer) for answer in direct] == [faces(answer) for answer in handed]
    assert min(answer.times.decode_ns for answer in direct) > 0
    assert min(answer.times.preprocess_ns for answer in direct) > 0
    assert min(answer.times.postprocess_ns for answer in direct) > 0
    assert all(answer.times.total_ns >= answer.times.infer_ns > 0 for answer in direct)


async def test_large_files_and_many_pixels_are_decoded_in_the_pool(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
    large = EncodedImage(cv2.imencode(".png", noise)[1].tobytes())
    assert len(large.data) > MAX_FILE_BYTES
    async with planes(tmp_path) as plane:
        assert not (await plane.detect("", None, large)).times.is_one_run
        assert (await plane.detect("", None, file(9, 990))).times.is_one_run
        with pytest.raises(ResourceExhaustedError, match="--max-image-pixels"):
            await plane.detect("", None, file(9, 1_001))


async def test_a_broken_picture_fails_alone_and_its_batch_mates_run_once(tmp_path: Path) -> None:
    """Its row is black; only its own answer says what is wrong with it."""
    good, broken = file(120), file(120, extension=".jpg")
    cut = EncodedImage(broken.data[: len(broken.data) // 2])
    async with planes(tmp_path) as plane:
        expected = faces(await plane.detect("", None, good))
        asked = [good, cut] * 8
        answers = await asyncio.gather(
            *(plane.detect("", None, each) for each in asked), return_exceptions=True
        )
    for picture, answer in zip(asked, answers, strict=True):
        if picture is cut:
            assert isinstance(answer, InvalidArgumentError)
            assert "truncated JPEG" in answer.message
        else:
            assert not isinstance(answer, BaseException)
            assert faces(answer) == expected
