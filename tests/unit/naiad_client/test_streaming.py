"""Streams of both clients: order, errors in-band, a bounded look-ahead, and a clean end however it comes."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.either_client import call, take
from support.fake_vision_server import BAD_IMAGE, WINDOW, FakeVisionService, serving

import naiad_client
from naiad_client import Client, aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Either = Client | aio.Client


async def test_results_come_in_the_order_of_the_frames(client: Either) -> None:
    """Frame ids count from 0, and each result carries the time at which its frame was taken."""
    results = await take(client.stream_detect([np.zeros((10 + i, 5, 3), np.uint8) for i in range(20)]))
    assert [result.frame_id for result in results] == list(range(20))
    assert [result.unwrap().image_height for result in results] == list(range(10, 30))
    times = [result.capture_time_us for result in results]
    assert times == sorted(times)
    assert times[0] > 0


async def test_stream_embed_takes_pictures_with_faces(client: Either, service: FakeVisionService) -> None:
    landmarks = np.ones((5, 2), np.float32)
    results = await take(
        client.stream_embed([(b"x", landmarks), (b"x", None)], model="mobilefacenet", version=2)
    )
    np.testing.assert_array_equal(results[0].unwrap().embeddings, [[1, 1, 1]])
    np.testing.assert_array_equal(results[1].unwrap().embeddings, [[0, 0, 0]])
    assert (service.requests[0].model_name, service.requests[0].model_version) == ("mobilefacenet", "2")


async def test_options_and_metadata_open_the_stream(client: Either, service: FakeVisionService) -> None:
    await take(client.stream_detect([b"x"], model="yunet", version="3", score_threshold=0.25, max_faces=7))
    (opening,) = service.requests
    assert (opening.model_name, opening.model_version) == ("yunet", "3")
    assert (opening.options.score_threshold, opening.options.max_faces) == (0.25, 7)
    assert service.metadata[0]["tenant"] == "blue"


async def test_an_empty_stream_has_no_results(client: Either) -> None:
    assert await take(client.stream_detect([])) == []


async def test_a_failed_frame_is_a_result_and_the_stream_lives_on(client: Either) -> None:
    first, second, third = await take(client.stream_detect([b"x", BAD_IMAGE, b"x"]))
    assert isinstance(second.error, naiad_client.InvalidArgumentError)
    assert second.error.message == "cannot decode image: 3 bytes"
    assert second.result is None
    assert (first.error, third.error) == (None, None)
    with pytest.raises(naiad_client.InvalidArgumentError):
        second.unwrap()


async def test_a_response_without_an_outcome_is_an_error(client: Either) -> None:
    (result,) = await take(client.stream_detect([b"x"], model="blank"))
    assert isinstance(result.error, naiad_client.NaiadError)


async def test_frames_may_be_paths(client: Either, tmp_path: Path) -> None:
    path = tmp_path / "frame.jpg"
    path.write_bytes(BAD_IMAGE)
    detected = await take(client.stream_detect([path, b"x"]))
    assert [result.error is None for result in detected] == [False, True]
    assert len(await take(client.stream_embed([(path, None)]))) == 1


@pytest.mark.parametrize("max_in_flight", [WINDOW, WINDOW + 2])
async def test_look_ahead_is_bounded_and_used(
    client: Either, service: FakeVisionService, max_in_flight: int
) -> None:
    """Of an endless source never more than `max_in_flight` unanswered frames are taken.

    The server answers only once it holds WINDOW frames: with a smaller look-ahead nothing would come.
    """
    unanswered: list[int] = []

    def endless() -> Iterator[bytes]:
        for taken in itertools.count(1):
            unanswered.append(taken - service.answered)
            yield b"x"

    stream = client.stream_detect(endless(), model="window", max_in_flight=max_in_flight)
    assert len(await take(stream, 10)) == 10
    assert WINDOW <= max(unanswered) <= max_in_flight


async def test_results_are_not_held_back_by_a_slow_source(client: Either) -> None:
    """The second frame is only taken when the first one's result is in the consumer's hands."""
    answered = threading.Event()

    def lockstep() -> Iterator[bytes]:
        yield b"x"
        assert answered.wait(20)
        yield b"x"

    stream: Any = client.stream_detect(lockstep())
    first = await anext(stream) if hasattr(stream, "__aiter__") else next(stream)
    answered.set()
    assert [first.frame_id, *(result.frame_id for result in await take(stream))] == [0, 1]


async def test_leaving_early_ends_the_call_and_the_source(client: Either, service: FakeVisionService) -> None:
    """The server sees the end, and the thread that pulled frames is out of the caller's iterator."""
    pulled = 0

    def endless() -> Iterator[bytes]:
        nonlocal pulled
        while True:
            pulled += 1
            yield b"x"

    assert len(await take(client.stream_detect(endless()), 2)) == 2
    after = pulled
    assert await asyncio.to_thread(service.stream_over.wait, 20)
    assert (await call(client, "detect", b"x")).model == "only"
    assert pulled == after


async def test_dropping_the_results_is_enough(address: str, service: FakeVisionService) -> None:
    """`break` in a plain loop ends the stream: nobody holds the generator any more."""
    threads: set[threading.Thread] = set()

    def endless() -> Iterator[bytes]:
        while True:
            threads.add(threading.current_thread())
            yield b"x"

    with Client(address) as client:
        for result in client.stream_detect(endless()):
            if result.frame_id == 3:
                break
        assert service.stream_over.wait(20)
    (thread,) = threads
    thread.join(20)
    assert not thread.is_alive()


async def test_aio_leaves_no_task_behind(address: str) -> None:
    """Early or regular end: the tasks afterwards are those before."""
    async with aio.Client(address) as client:
        await client.detect(b"x")
        before = asyncio.all_tasks()
        await take(client.stream_detect(itertools.repeat(b"x")), 3)
        await take(client.stream_detect([b"x"] * 3))
        assert {task for task in asyncio.all_tasks() if not task.done()} == before


def test_a_source_that_blocks_does_not_hold_up_the_program(address: str) -> None:
    """As a camera that gives no more frames: a loop over plain iterables ends all the same."""
    release, released = threading.Event(), threading.Event()

    def source() -> Iterator[bytes]:
        yield b"x"
        release.wait(5)
        released.set()

    async def first() -> int:
        async with aio.Client(address) as client:
            results = client.stream_detect(source())
            frame_id = (await anext(results)).frame_id
            await results.aclose()
            return frame_id

    assert asyncio.run(first()) == 0
    assert not released.is_set()
    release.set()


async def test_aio_cancelling_the_consumer_ends_the_stream(address: str, service: FakeVisionService) -> None:
    started = asyncio.Event()

    async def consume(client: aio.Client) -> None:
        async for _ in client.stream_detect(itertools.repeat(b"x")):
            started.set()

    async with aio.Client(address) as client:
        consumer = asyncio.create_task(consume(client))
        await started.wait()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert await asyncio.to_thread(service.stream_over.wait, 20)


async def test_aio_takes_an_asynchronous_source(address: str) -> None:
    async def frames() -> AsyncIterator[bytes]:
        for _ in range(12):
            await asyncio.sleep(0)
            yield b"x"

    async with aio.Client(address) as client:
        results = await take(client.stream_detect(frames(), max_in_flight=2))
    assert [result.frame_id for result in results] == list(range(12))


@pytest.mark.parametrize("method", ["stream_detect", "stream_embed"])
async def test_a_failed_stream_raises(client: Either, method: str) -> None:
    stream = getattr(client, method)(itertools.repeat(b"x"), model="missing")
    with pytest.raises(naiad_client.NotFoundError, match="no model 'missing'"):
        await take(stream)


async def test_a_stream_that_breaks_raises_after_its_results(client: Either) -> None:
    seen: list[Any] = []
    with pytest.raises(naiad_client.UnavailableError, match="draining"):
        await collect_into(seen, client.stream_detect(itertools.repeat(b"x"), model="breaks", retries=0))
    assert len(seen) == 1


async def collect_into(seen: list[Any], stream: Any) -> None:
    """Keep the results that came before an exception."""
    if hasattr(stream, "__aiter__"):
        async for result in stream:
            seen.append(result)  # noqa: PERF401 - results before an exception must be kept
    else:
        for result in stream:
            seen.append(result)  # noqa: PERF402 - as above


async def test_a_failing_source_raises_after_the_earlier_results(client: Either) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        yield b"x"
        raise ConnectionError("camera unplugged")

    seen: list[Any] = []
    with pytest.raises(ConnectionError, match="camera unplugged"):
        await collect_into(seen, client.stream_detect(failing()))
    assert [result.frame_id for result in seen] == [0, 1]


@pytest.mark.parametrize("bad", [None, np.zeros((2, 2), np.float64)])
async def test_a_useless_frame_raises_after_the_earlier_results(client: Either, bad: Any) -> None:
    """A frame that is no picture is a bug of the caller's, not a failed frame; None does not end a stream."""
    seen: list[Any] = []
    with pytest.raises(TypeError):
        await collect_into(seen, client.stream_detect([b"x", bad, b"x"]))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [("early", "too early, after 1 frames"), ("swapped", "answered frame 1 where frame 0")],
)
async def test_a_server_that_breaks_its_promise_is_found_out(client: Either, model: str, words: str) -> None:
    with pytest.raises(naiad_client.InternalError, match=words):
        await take(client.stream_detect(itertools.repeat(b"x"), model=model))


async def test_a_stream_s_timeout_is_kept(client: Either) -> None:
    with pytest.raises(naiad_client.DeadlineExceededError):
        await take(client.stream_detect([b"x"], model="slow", timeout=0.1))


async def test_nobody_there_is_unavailable(kind: type[Either]) -> None:
    with serving(FakeVisionService()) as address:
        pass
    client = kind(address)
    with pytest.raises(naiad_client.UnavailableError):
        await take(client.stream_detect(itertools.repeat(b"x")))
    await call(client, "close")


@pytest.mark.parametrize("method", ["stream_detect", "stream_embed"])
async def test_no_look_ahead_at_all_is_refused(client: Either, method: str) -> None:
    with pytest.raises(ValueError, match="max_in_flight is 0"):
        getattr(client, method)([], max_in_flight=0)


@pytest.mark.parametrize("method", ["stream_detect", "stream_embed"])
async def test_one_picture_in_place_of_many_is_refused(client: Either, method: str) -> None:
    """Iterating a path would send its letters."""
    for picture in ("photo.jpg", b"the bytes of a file", Path("photo.jpg")):
        with pytest.raises(TypeError, match="put it into a list"):
            getattr(client, method)(picture)
