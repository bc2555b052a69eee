"""The writer's thread: in order, bounded, and not ended by what goes wrong."""

from __future__ import annotations

import threading

from structlog.testing import capture_logs

from naiad.telemetry.tracing import writer as module
from naiad.telemetry.tracing.writer import TraceWriter


def test_work_is_done_in_order_on_the_named_thread_and_joined() -> None:
    writer, done = TraceWriter(), []
    for index in range(5):
        writer.submit(lambda index=index: done.append((index, threading.current_thread().name)))  # type: ignore[misc]  # bound now
    writer.close()
    assert done == [(index, "naiad-traces") for index in range(5)]
    assert not any(thread.name == "naiad-traces" for thread in threading.enumerate())


def test_what_fails_is_logged_once_and_counted_and_the_rest_is_done() -> None:
    writer, done = TraceWriter(), []

    def fail() -> None:
        raise OSError("disk full")

    with capture_logs() as logs:
        writer.submit(fail)
        writer.submit(fail)
        writer.submit(lambda: done.append(1))
        writer.close()
    assert done == [1]
    assert [(entry["event"], entry.get("reason"), entry.get("failed")) for entry in logs] == [
        ("a trace could not be written", "disk full", None),
        ("traces were lost", None, 2),
    ]


def test_traces_are_dropped_and_counted_when_too_many_wait_but_settings_are_not() -> None:
    """A disk that does not answer costs traces, never memory or the loop's time."""
    writer, done, release = TraceWriter(), [], threading.Event()
    writer.submit(release.wait)  # type: ignore[arg-type]  # its answer is not wanted
    with capture_logs() as logs:
        for index in range(module.MAX_WAITING + 10):
            writer.submit(lambda index=index: done.append(index), droppable=True)  # type: ignore[misc]  # bound now
        writer.submit(lambda: done.append(-1))
        release.set()
        writer.close()
    assert done[-1] == -1
    assert writer.dropped >= 9, "the first piece may or may not have left the queue"
    assert len(done) == module.MAX_WAITING + 10 - writer.dropped + 1
    assert [entry["event"] for entry in logs] == ["traces are dropped", "traces were lost"]
