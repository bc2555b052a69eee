"""Frames that are at work at once pass their tracker in order."""

from __future__ import annotations

import asyncio

import numpy as np

from naiad.dataplane.frames.track_line import TrackLine
from naiad.dataplane.frames.turns import Turns
from naiad.vision.detections import Detections
from naiad.vision.track_embeddings import TrackEmbeddings
from naiad.vision.tracks import Tracker


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


async def test_faces_are_tracked_in_the_order_of_frames_whichever_is_detected_first() -> None:
    line = TrackLine(Tracker())
    for number in range(3):
        line.enter(number)
    later = [asyncio.ensure_future(line.track(number, face(10 + number))) for number in (2, 1)]
    await settle()
    assert not any(task.done() for task in later)
    assert (await line.track(0, face())).tolist() == [1]
    assert [(await task).tolist() for task in later] == [[1], [1]]


async def test_a_face_has_the_vector_of_an_earlier_frame_that_is_made_later() -> None:
    """The second frame has nothing to embed, and waits for what the first one makes."""
    line = TrackLine(Tracker(), TrackEmbeddings())
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


async def test_a_frame_that_fails_holds_up_nobody_and_its_faces_are_embedded_by_the_next() -> None:
    line = TrackLine(Tracker(), TrackEmbeddings())
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
