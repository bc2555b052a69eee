"""Frames that are at work at once pass their tracker in order."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.frames.track_line import MANY, TrackLine
from naiad.dataplane.frames.turns import Turns
from naiad.vision.detections import Detections
from naiad.vision.track_embeddings import TrackEmbeddings
from naiad.vision.tracks import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.vision.tracks import Ids


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(1, max_pending=4)
    yield pool
    pool.close()


class SlowTracker(Tracker):
    """Says which threads its updates run on, and holds each until `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.began = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.gate = threading.Event()

    def update(self, detections: Detections, *, frame: int | None = None) -> Ids:
        self.threads.append(threading.get_ident())
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.gate.wait(5)
        return super().update(detections, frame=frame)


def crowd(count: int = MANY) -> Detections:
    """Faces that stand apart, in one row."""
    boxes = np.array([[60 * x, 10, 60 * x + 40, 60] for x in range(count)], np.float32)
    points = np.array([[10, 25], [30, 25], [20, 35], [12, 50], [28, 50]], np.float32)
    return Detections(boxes, np.full(count, 0.9, np.float32), boxes[:, None, :2] + points)


def face(x: float = 10) -> Detections:
    """One face, moving to the right by `x`."""
    boxes = np.array([[x, 10, x + 40, 60]], np.float32)
    landmarks = np.array([[[x + 10, 25], [x + 30, 25], [x + 20, 35], [x + 12, 50], [x + 28, 50]]], np.float32)
    return Detections(boxes, np.array([0.9], np.float32), landmarks)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_comes_early_waits_and_who_never_comes_lets_others_pass() -> None:
    turns, passed = Turns(), list[int]()
    for number in (3, 4, 7, 9):
        turns.enter(number)

    async def go(number: int) -> None:
        await turns.wait(number)
        passed.append(number)
        turns.leave(number)

    late = [asyncio.ensure_future(go(number)) for number in (9, 4)]
    await settle()
    assert passed == []
    turns.leave(3)
    turns.leave(3)
    await settle()
    assert passed == [4]
    turns.leave(7)
    await asyncio.gather(*late)
    assert passed == [4, 9]


async def test_faces_are_tracked_in_the_order_of_frames_whichever_is_detected_first(pool: DecodePool) -> None:
    line = TrackLine(Tracker(), pool)
    for number in range(3):
        line.enter(number)
    later = [asyncio.ensure_future(line.track(number, face(10 + number))) for number in (2, 1)]
    await settle()
    assert not any(task.done() for task in later)
    assert (await line.track(0, face())).tolist() == [1]
    assert [(await task).tolist() for task in later] == [[1], [1]]


async def test_a_face_has_the_vector_of_an_earlier_frame_that_is_made_later(pool: DecodePool) -> None:
    """The second frame has nothing to embed, and waits for what the first one makes."""
    line = TrackLine(Tracker(), pool, TrackEmbeddings())
    line.enter(0)
    line.enter(1)
    first = await line.choose(0, 100, face())
    second = await line.choose(1, 101, face())
    assert (first.indices.tolist(), second.indices.tolist()) == ([0], [])
    waiting = asyncio.ensure_future(line.absorb(1, np.empty((0, 0), np.float32)))
    await settle()
    assert not waiting.done()
    [made] = await line.absorb(0, np.ones((1, 3), np.float32))
    [found] = await waiting
    assert made is not None
    assert found == made
    assert made.frame_id == 100


async def test_a_frame_that_fails_holds_up_nobody_and_its_faces_are_embedded_by_the_next(
    pool: DecodePool,
) -> None:
    line = TrackLine(Tracker(), pool, TrackEmbeddings())
    for number in range(3):
        line.enter(number)
    await line.choose(0, 100, face())
    line.leave(0)  # embedding failed
    line.leave(1)  # it could not be decoded
    choice = await line.choose(2, 102, face())
    assert choice.indices.tolist() == [0]
    [made] = await line.absorb(2, np.ones((1, 3), np.float32))
    assert made is not None
    assert made.frame_id == 102


async def test_many_faces_are_tracked_on_a_thread_and_the_next_frame_waits_for_it(pool: DecodePool) -> None:
    """The event loop goes on meanwhile; few faces never leave it."""
    tracker = SlowTracker()
    line = TrackLine(tracker, pool)
    for number in range(2):
        line.enter(number)
    frames = [asyncio.ensure_future(line.track(number, crowd())) for number in (1, 0)]
    await settle()
    assert not any(frame.done() for frame in frames)
    tracker.gate.set()
    second, first = await asyncio.gather(*frames)
    assert first.tolist() == second.tolist() == list(range(1, MANY + 1))
    assert threading.get_ident() not in tracker.threads
    small = SlowTracker()
    small.gate.set()
    line = TrackLine(small, pool)
    line.enter(0)
    await line.track(0, face())
    assert small.threads == [threading.get_ident()]


async def test_a_frame_that_ends_while_its_faces_are_tracked_lets_nobody_in_before_and_chooses_nothing(
    pool: DecodePool,
) -> None:
    """Its time was up: the thread has the tracker until it is done, and the next frame embeds all faces."""
    tracker = SlowTracker()
    line = TrackLine(tracker, pool, TrackEmbeddings())
    line.enter(0)
    line.enter(1)
    late, following = (asyncio.ensure_future(line.choose(number, 100, crowd())) for number in (0, 1))
    await tracker.began.wait()
    late.cancel()
    await settle()
    line.leave(0)
    await settle()
    assert late.cancelled()
    assert len(tracker.threads) == 1
    tracker.gate.set()
    assert len((await following).indices) == MANY
    line.leave(1)
