"""A swap falls between two runs: no run sees two sessions, and the old one is closed after its last use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.sessions import DoublingSession

from naiad.core.errors import InvalidArgumentError
from naiad.runtime.tensorrt.shapes import ShapeRange
from naiad.runtime.tensorrt.swappable import SwappableSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.core.tensors import Array, Tensors

FEEDS = {"INPUT0": np.ones((1, 2), np.float32)}
NAMES = ["OUTPUT0"]


class Recorder(DoublingSession):
    """Runs `during` in the middle of each run; counts terminates and rearms; has places for its inputs."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.during = during
        self.terminated = False
        self.place: Array = np.zeros((4, 2), np.float32)

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        assert not self.closed, "a closed session runs"
        self.during()
        assert not self.closed, "a session is closed while it runs"
        return super().run(inputs, outputs)

    def terminate(self) -> None:
        self.terminated = True

    def rearm(self) -> None:
        self.terminated = False

    def slot(
        self, name: str, rows: int, row_shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Array | None:
        return self.place[:rows]

    @property
    def sizes(self) -> tuple[int, ...]:
        return (4,)

    def bucket_for(self, rows: int) -> int:
        return 4


def swappable(session: DoublingSession, **more: ShapeRange) -> SwappableSession:
    return SwappableSession(session, dispose=lambda old: old.close(), declared=more)


def test_runs_go_to_the_new_session_after_a_swap_and_the_idle_old_one_is_closed_at_once() -> None:
    old, new = Recorder(), Recorder()
    session = swappable(old)
    session.run(FEEDS, NAMES)
    session.swap(new)
    session.run(FEEDS, NAMES)
    assert (old.batches, new.batches) == ([1], [1])
    assert (old.closed, new.closed) == (True, False)
    assert session.wait_swapped(0)


def test_a_run_that_has_begun_ends_on_the_old_session_which_is_closed_after_it() -> None:
    new = Recorder()
    old = Recorder(during=lambda: session.swap(new))
    session = swappable(old)
    outputs = session.run(FEEDS, NAMES)
    np.testing.assert_array_equal(outputs["OUTPUT0"], FEEDS["INPUT0"] * 2)
    assert old.closed
    assert new.batches == []


def test_a_batch_that_is_being_gathered_runs_where_its_places_are() -> None:
    """Its inputs lie in the old session's memory, which is gone once that is closed."""
    old, new = Recorder(), Recorder()
    session = swappable(old)
    place = session.slot("INPUT0", 1, (2,), np.dtype(np.float32))
    session.swap(new)
    assert not session.wait_swapped(0)
    assert place is not None
    assert np.shares_memory(place, old.place)
    session.run(FEEDS, NAMES)
    assert (old.batches, old.closed, new.batches) == ([1], True, [])
    place = session.slot("INPUT0", 1, (2,), np.dtype(np.float32))
    assert place is not None
    assert np.shares_memory(place, new.place)


def test_a_session_without_places_has_none() -> None:
    session = swappable(DoublingSession())
    assert session.slot("INPUT0", 1, (2,), np.dtype(np.float32)) is None
    assert (session.bucket_for(3), session.sizes) == (3, ())
    session.swap(Recorder())
    session.run(FEEDS, NAMES)
    assert (session.bucket_for(3), session.sizes) == (4, (4,))


def test_a_failed_run_gives_the_old_session_back_too() -> None:
    old, new = Recorder(), Recorder()
    session = swappable(old)
    old.during = lambda: session.swap(new)
    with pytest.raises(InvalidArgumentError):
        session.run({"INPUT0": np.full((1, 2), -1.0, np.float32)}, NAMES)
    assert old.closed


def test_terminate_holds_for_the_run_that_comes_next_whichever_session_it_is_on() -> None:
    old, new = Recorder(), Recorder()
    session = swappable(old)
    session.terminate()
    session.swap(new)
    assert new.terminated
    session.rearm()
    assert not new.terminated


def test_terminate_reaches_a_run_that_the_swap_has_left_on_the_old_session() -> None:
    new = Recorder()

    def during() -> None:
        session.swap(new)
        session.terminate()

    old = Recorder(during)
    session = swappable(old)
    session.run(FEEDS, NAMES)
    assert old.terminated
    assert new.terminated


def test_close_frees_what_serves_and_what_a_gathered_batch_has_kept() -> None:
    old, new = Recorder(), Recorder()
    session = swappable(old)
    session.slot("INPUT0", 1, (2,), np.dtype(np.float32))
    session.swap(new)
    session.close()
    session.close()
    assert (old.closed, new.closed) == (True, True)


def test_no_run_of_many_threads_meets_a_closed_session() -> None:
    """The sessions themselves assert it in every run."""
    session = swappable(Recorder())
    stop, failures = threading.Event(), []

    def run() -> None:
        try:
            while not stop.is_set():
                session.run(FEEDS, NAMES)
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        session.swap(Recorder())
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert session.wait_swapped(0)


def test_shapes_outside_of_what_is_declared_are_refused_before_and_after_a_swap() -> None:
    """An engine is built for a range; CUDA before it must not take what the engine would refuse."""
    session = swappable(DoublingSession(), INPUT0=ShapeRange((2,), (2,), (4,)))
    session.run(FEEDS, NAMES)
    for _ in range(2):
        with pytest.raises(
            InvalidArgumentError, match=r"'INPUT0' has shape \[1, 5\], this model takes 2/2/4"
        ):
            session.run({"INPUT0": np.ones((1, 5), np.float32)}, NAMES)
        session.swap(DoublingSession())
