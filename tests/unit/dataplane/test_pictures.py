"""Files of one request become one batch, whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import Alignment, EmbedConfig, InputConfig, Resize, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.pictures import PicturePlane, PictureTimes
from naiad.vision.embedder import Embedder
from naiad.vision.images import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH, HEIGHT = 64, 48


def model(picture: InputConfig, dims: tuple[int, ...]) -> Embedder:
    """Takes pictures as they are, so that what is written can be told."""
    config = VisionConfig(Task.EMBED, picture, embed=EmbedConfig(Alignment.NONE, normalize=False, tensor="y"))
    inputs = (TensorConfig("input", DataType.FP32, dims),)
    return Embedder(config, inputs, (TensorConfig("y", DataType.FP32, (4,)),))


FIXED = model(make_input(), (3, HEIGHT, WIDTH))
FREE = model(make_input(resize=Resize.NONE, width=None, height=None), (3, -1, -1))


def png(value: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), value, np.uint8))[1].tobytes()


@pytest.fixture(params=[1, 3])
def pool(request: pytest.FixtureRequest) -> Iterator[DecodePool]:
    """Of one thread, and of several."""
    threads = DecodePool(request.param, 10)
    yield threads
    threads.close()


async def idle(pool: DecodePool) -> None:
    """Wait until nothing waits for it or runs in it."""
    async with asyncio.timeout(20):
        while "pending=0/" not in repr(pool):  # noqa: ASYNC110  # the pool has no event for it
            await asyncio.sleep(0)


@pytest.fixture
def plane(pool: DecodePool) -> PicturePlane:
    return PicturePlane(pool, ImageLimits(max_bytes=10_000, max_pixels=10_000))


async def test_each_picture_is_written_to_its_own_place(plane: PicturePlane) -> None:
    times = PictureTimes()
    values = [250, 1, 77, 3, 9]
    files = [png(value) for value in values]
    tensor, transforms = await plane.prepare(FIXED, files, times, tensor="input")
    assert tensor.shape == (5, 3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(tensor, np.broadcast_to(np.reshape(values, (5, 1, 1, 1)), tensor.shape))
    assert [transform.image_width for transform in transforms] == [WIDTH] * 5
    assert times.decode_ns > 0
    assert times.preprocess_ns > 0


async def test_the_picture_that_is_broken_is_named(pool: DecodePool, plane: PicturePlane) -> None:
    for bad, kind, words in (
        (b"text", InvalidArgumentError, "unknown format"),
        (png(1, 200, 200), ResourceExhaustedError, "the limit is 10000"),
    ):
        with pytest.raises(kind, match=rf"picture 1 \(the first is 0\) of input 'input': .*{words}"):
            await plane.prepare(FIXED, [png(1), bad, png(2)], PictureTimes(), tensor="input")
    await idle(pool)  # nothing of it waits any more


async def test_sizes_that_are_no_batch_are_named(plane: PicturePlane) -> None:
    tensor, _ = await plane.prepare(FREE, [png(1, 8, 4)] * 3, PictureTimes(), tensor="input")
    assert tensor.shape == (3, 3, 4, 8)
    with pytest.raises(
        InvalidArgumentError, match=r"picture \d .*\[3, 4, \d\] and picture \d one of \[3, 4, \d\]"
    ):
        await plane.prepare(FREE, [png(1, 8, 4), png(1, 9, 4)], PictureTimes(), tensor="input")


async def test_more_pictures_than_may_wait_are_refused_by_the_flags_name(
    pool: DecodePool, plane: PicturePlane
) -> None:
    with pytest.raises(ResourceExhaustedError, match="the limit is 10 .--max-pending-images"):
        await plane.prepare(FIXED, [png(1)] * 11, PictureTimes(), tensor="input")
    await idle(pool)
    await plane.prepare(FIXED, [png(1)] * 10, PictureTimes(), tensor="input")


async def test_a_caller_that_leaves_takes_back_what_has_not_begun() -> None:
    """The one thread is busy: of the ten pictures none is decoded, and none goes on counting."""
    threads, go_on = DecodePool(1, 11), threading.Event()
    try:
        plane = PicturePlane(threads, ImageLimits(max_bytes=10_000, max_pixels=10_000))
        busy = asyncio.create_task(threads.run(lambda: go_on.wait(10)))
        await asyncio.sleep(0)
        times = PictureTimes()
        calling = asyncio.create_task(plane.prepare(FIXED, [png(1)] * 10, times, tensor="input"))
        await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        go_on.set()
        await busy
        await idle(threads)
        assert times == PictureTimes()
        await plane.prepare(FIXED, [png(1)] * 10, times, tensor="input")
    finally:
        go_on.set()
        threads.close()
