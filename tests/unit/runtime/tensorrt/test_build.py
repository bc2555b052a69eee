"""An engine is swapped in when it is as good as what serves; whatever else happens, what serves goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from structlog.testing import capture_logs
from support.clock import FakeClock
from support.sessions import DoublingSession

from naiad.core.errors import InternalError
from naiad.runtime.tensorrt.build import BuildState, EngineBuild
from naiad.runtime.tensorrt.swappable import SwappableSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.runtime.session import Session

FEEDS = {"INPUT0": np.ones((1, 2), np.float32)}


class Scene:
    """Two instances on CUDA and the build of their engines; `opening` and `comparing` happen in its steps."""

    def __init__(
        self, opening: Callable[[], None] = lambda: None, comparing: Callable[[], None] = lambda: None
    ) -> None:
        self.clock = FakeClock()
        self.cuda = [DoublingSession(), DoublingSession()]
        self.engines = [DoublingSession(), DoublingSession()]
        self.slots = [SwappableSession(each, dispose=lambda old: old.close()) for each in self.cuda]
        self.opening, self.comparing = opening, comparing
        self.compared: list[Session] = []
        self.build = EngineBuild(
            "m/1", self.slots, open_engines=self._open, verify=self._verify, clock=self.clock
        )

    def _open(self, cancelled: threading.Event) -> Sequence[Session]:
        self.opening()
        return self.engines

    def _verify(self, engines: Sequence[Session], cancelled: threading.Event) -> None:
        self.compared += engines
        self.comparing()

    def serving(self) -> list[DoublingSession]:
        """Who answers now."""
        for session in (*self.cuda, *self.engines):
            session.batches.clear()
        for slot in self.slots:
            slot.run(FEEDS, ["OUTPUT0"])
        return [session for session in (*self.cuda, *self.engines) if session.batches]

    def state(self) -> BuildState:
        return self.build.status.state

    def closed(self) -> tuple[list[bool], list[bool]]:
        return [each.closed for each in self.cuda], [each.closed for each in self.engines]


def fail() -> None:
    raise InternalError("no memory")


def test_a_good_engine_serves_and_cuda_is_closed() -> None:
    scene = Scene()
    assert scene.state() is BuildState.WAITING
    scene.build.run()
    assert scene.state() is BuildState.SWAPPED
    assert scene.compared == scene.engines
    assert scene.serving() == scene.engines
    assert scene.closed() == ([True, True], [False, False])


def test_the_states_are_passed_in_order_and_each_is_logged() -> None:
    seen: list[BuildState] = []
    scene = Scene()
    scene.opening = scene.comparing = lambda: seen.append(scene.build.status.state)
    with capture_logs() as log:
        scene.build.run()
    assert seen == [BuildState.BUILDING, BuildState.VERIFYING]
    assert [line["state"] for line in log] == ["building", "verifying", "swapped"]
    assert all(line["model"] == "m/1" and "took_s" in line for line in log)


def test_seconds_count_until_it_is_done() -> None:
    scene = Scene(opening=lambda: scene.clock.advance_us(40e6))
    scene.clock.advance_us(2e6)
    assert scene.build.status.seconds == 2
    scene.build.run()
    scene.clock.advance_us(60e6)
    assert scene.build.status.seconds == 42


def test_an_engine_that_cannot_be_built_leaves_cuda_and_says_why() -> None:
    scene = Scene(opening=fail)
    with capture_logs() as log:
        scene.build.run()
    assert (scene.build.status.state, scene.build.status.reason) == (BuildState.FAILED, "no memory")
    assert scene.serving() == scene.cuda
    assert [line["reason"] for line in log if line["log_level"] == "warning"] == ["no memory"]


def test_an_engine_that_answers_otherwise_leaves_cuda_and_is_closed() -> None:
    scene = Scene(comparing=fail)
    scene.build.run()
    assert scene.state() is BuildState.FAILED
    assert scene.serving() == scene.cuda
    assert scene.closed() == ([False, False], [True, True])


def test_a_defect_leaves_cuda_too_and_the_log_has_all_of_it() -> None:
    """The builder's thread must live on for the other models."""
    scene = Scene(opening=lambda: scene.nothing)  # type: ignore[attr-defined]  # the defect
    with capture_logs() as log:
        scene.build.run()
    assert scene.build.status.reason.startswith("AttributeError: ")
    assert any("exc_info" in line for line in log)


def test_cancelled_while_it_waits_nothing_is_built() -> None:
    scene = Scene(opening=fail)
    scene.build.cancel()
    scene.build.run()
    assert scene.state() is BuildState.CANCELLED


@pytest.mark.parametrize("step", ["opening", "comparing"])
def test_cancelled_at_work_its_result_is_dropped(step: str) -> None:
    scene = Scene()
    # By another thread, as it is: `cancel` waits for the comparison, which looks at the event between runs.
    canceller = threading.Thread(target=scene.build.cancel)

    def cancel() -> None:
        canceller.start()
        assert scene.build._cancelled.wait(20)
        assert scene.build.wait(20)

    setattr(scene, step, cancel)
    scene.build.run()
    canceller.join(20)
    assert scene.state() is BuildState.CANCELLED
    assert scene.serving() == scene.cuda
    assert scene.closed() == ([False, False], [True, True])


def test_cancel_waits_for_a_comparison_so_that_what_serves_may_be_closed() -> None:
    comparing, go_on = threading.Event(), threading.Event()

    def compare() -> None:
        comparing.set()
        assert go_on.wait(20)

    scene = Scene(comparing=compare)
    runner = threading.Thread(target=scene.build.run)
    runner.start()
    assert comparing.wait(20)
    canceller = threading.Thread(target=scene.build.cancel)
    canceller.start()
    assert scene.build.wait(20), "it is cancelled at once"
    assert canceller.is_alive(), "and waits for the run at work"
    go_on.set()
    canceller.join(20)
    runner.join(20)
    assert not canceller.is_alive()


def test_a_cancel_after_the_swap_changes_nothing() -> None:
    scene = Scene()
    scene.build.run()
    scene.build.cancel()
    assert scene.state() is BuildState.SWAPPED


def test_closing_the_slots_while_it_builds_drops_the_engine() -> None:
    """An unload: the version cancels, closes its sessions, and the engine comes minutes later."""
    scene = Scene()

    def unload() -> None:
        scene.build.cancel()
        for slot in scene.slots:
            slot.close()

    scene.opening = unload
    scene.build.run()
    assert scene.closed() == ([True, True], [True, True])


def test_wait_tells_whether_it_is_done() -> None:
    scene = Scene()
    assert not scene.build.wait(0)
    scene.build.run()
    assert scene.build.wait(0)
