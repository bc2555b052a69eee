"""Trace files: an array that can be read after every write, whatever happens in between."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clock import FakeClock
from support.traces import identities, read, run

from naiad.core.errors import InvalidArgumentError
from naiad.telemetry.tracing import FrontEnd, RequestTrace, TraceLevel, json_file
from naiad.telemetry.tracing.json_file import JsonTraceFiles
from naiad.telemetry.tracing.sinks import TraceGroup

if TYPE_CHECKING:
    from collections.abc import Callable


def finished(identity: int = 1, level: TraceLevel = TraceLevel.TIMESTAMPS) -> RequestTrace:
    clock = FakeClock()
    trace = RequestTrace(identity, "simple", level, clock=clock, done=lambda _: None, front_end=FrontEnd.GRPC)
    run(trace, clock, 'a "quoted" id')
    return trace


def test_rows_have_tritons_form(tmp_path: Path) -> None:
    files, group = JsonTraceFiles(str(tmp_path / "t.json")), TraceGroup(0, limited=False)
    files.write(finished(9, TraceLevel.TIMESTAMPS | TraceLevel.TENSORS), group)
    files.flush(group, indexed=False)
    rows = read(tmp_path / "t.json")
    assert rows[0] == {
        "id": 9,
        "model_name": "simple",
        "model_version": 3,
        "request_id": 'a "quoted" id',
        "batch_size": 4,
        "batch_reason": "full",
    }
    assert rows[1] == {"id": 9, "timestamps": [{"name": "GRPC_WAITREAD_START", "ns": 1_000_000_000}]}
    assert rows[-2] == {
        "id": 9,
        "activity": "TENSOR_QUEUE_INPUT",
        "tensor": {"name": "INPUT0", "data": "0,1,2", "shape": "1,3", "dtype": "INT32"},
    }
    assert (tmp_path / "t.json").read_bytes().startswith(b'[{"id":9,"model_name":"simple"')


def test_the_array_is_whole_after_every_write_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("of an earlier run")
    files, group = JsonTraceFiles(str(path)), TraceGroup(0, limited=False)
    for identity in (1, 2, 3):
        files.write(finished(identity), group)
        files.flush(group, indexed=False)
        assert identities(path) == list(range(1, identity + 1))


@pytest.mark.parametrize("disturb", [Path.unlink, lambda path: path.write_text("")], ids=["moved", "cut"])
def test_a_file_that_was_moved_or_cut_is_begun_anew(tmp_path: Path, disturb: Callable[[Path], None]) -> None:
    path = tmp_path / "t.json"
    files, group = JsonTraceFiles(str(path)), TraceGroup(0, limited=False)
    files.write(finished(1), group)
    files.flush(group, indexed=False)
    disturb(path)
    files.write(finished(2), group)
    files.flush(group, indexed=False)
    assert identities(path) == [2]


def test_what_a_failed_write_left_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the traces of that moment, not the file."""
    path = tmp_path / "t.json"
    files, group = JsonTraceFiles(str(path)), TraceGroup(0, limited=False)
    files.write(finished(1), group)
    files.flush(group, indexed=False)

    def full_disk(target: Path, end: int, text: bytes) -> int:
        with target.open("r+b") as file:
            file.seek(end)
            file.write(text[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    files.write(finished(2), group)
    with monkeypatch.context() as patch:
        patch.setattr(json_file, "_append", full_disk)
        with pytest.raises(OSError, match="No space"):
            files.flush(group, indexed=False)
    files.write(finished(3), group)
    files.flush(group, indexed=False)
    assert identities(path) == [1, 3]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (TraceGroup(0, limited=False), "t.json"),
        (TraceGroup(0, limited=True), "t.json.0"),
        (TraceGroup(1000, limited=False), "t.json.0"),
    ],
)
def test_a_group_too_large_to_hold_is_written_early_into_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: TraceGroup, name: str
) -> None:
    """Memory is bounded however rarely traces are to be written."""
    monkeypatch.setattr(json_file, "MAX_HELD_BYTES", 2_000)
    files = JsonTraceFiles(str(tmp_path / "t.json"))
    for identity in range(1, 11):
        files.write(finished(identity), group)
        assert group.size_bytes <= 2_000
    assert [path.name for path in tmp_path.iterdir()] == [name]
    files.flush(group, indexed=name != "t.json")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert identities(tmp_path / name) == list(range(1, 11))


def test_a_file_that_may_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="it is a folder"):
        JsonTraceFiles(str(tmp_path))
