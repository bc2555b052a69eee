"""One thread builds, in turn; it is joined at the end, and nothing that waits for it is left waiting."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from support.sessions import DoublingSession

from naiad.runtime.tensorrt.build import BuildState, EngineBuild
from naiad.runtime.tensorrt.builder import THREAD_NAME, EngineBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.runtime.session import Session

WAIT_S = 20


def build(work: Callable[[], None] = lambda: None, name: str = "m/1") -> EngineBuild:
    """A build without instances, whose engine takes as long as `work` does."""

    def open_engines(cancelled: threading.Event) -> Sequence[Session]:
        work()
        return ()

    return EngineBuild(name, (), open_engines=open_engines, verify=lambda engines, cancelled: None)


def blocked(started: threading.Event, go_on: threading.Event) -> Callable[[], None]:
    """Work that says that it has begun, and goes on when it may."""

    def work() -> None:
        started.set()
        assert go_on.wait(WAIT_S)

    return work


def test_a_build_runs_on_the_builders_own_thread() -> None:
    names: list[str] = []
    builder, asked = EngineBuilder(), build(lambda: names.append(threading.current_thread().name))
    builder.submit(asked)
    assert asked.wait(WAIT_S)
    assert builder.close(WAIT_S)
    assert names == [THREAD_NAME]


def test_without_work_there_is_no_thread() -> None:
    before = threading.active_count()
    builder = EngineBuilder()
    assert threading.active_count() == before
    assert builder.close(0)


def test_what_is_to_be_done_soon_comes_before_what_waited_longer() -> None:
    """An engine of the cache takes seconds, and should not wait behind those that take minutes."""
    order: list[str] = []
    started, go_on = threading.Event(), threading.Event()
    first = build(blocked(started, go_on))
    later, soon = build(lambda: order.append("later")), build(lambda: order.append("soon"))
    builder = EngineBuilder()
    builder.submit(first)
    assert started.wait(WAIT_S)
    builder.submit(later)
    builder.submit(soon, soon=True)
    go_on.set()
    assert later.wait(WAIT_S)
    assert order == ["soon", "later"]
    builder.close(WAIT_S)


def test_a_session_is_disposed_of_by_the_thread_or_after_it_at_once() -> None:
    builder, first, second = EngineBuilder(), DoublingSession(), DoublingSession()
    builder.dispose(first)
    builder.close(WAIT_S)
    builder.dispose(second)
    assert (first.closed, second.closed) == (True, True)


def test_close_cancels_what_waits_and_does_not_wait_for_what_cannot_be_interrupted() -> None:
    started, go_on = threading.Event(), threading.Event()
    at_work = build(blocked(started, go_on))
    waiting, session = build(), DoublingSession()
    builder = EngineBuilder()
    builder.submit(at_work)
    assert started.wait(WAIT_S)
    builder.submit(waiting)
    builder.dispose(session)
    assert not builder.close(0)
    assert at_work.status.state is BuildState.CANCELLED
    assert waiting.status.state is BuildState.CANCELLED
    assert session.closed
    go_on.set()
    assert builder.close(WAIT_S), "it ends when its build does"


def test_what_comes_after_the_end_is_cancelled() -> None:
    builder, late = EngineBuilder(), build()
    builder.close(0)
    builder.submit(late)
    assert late.status.state is BuildState.CANCELLED
