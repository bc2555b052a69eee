"""The audit log: torn lines, rotation, a disk that fails, and an end without a thread left."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.experiments import audit_log as subject
from naiad.lifecycle.experiments.audit_log import AuditLog

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, *records: dict[str, int], max_bytes: int = 1_000) -> AuditLog:
    """A closed log to which the records were appended, `{"standing": 0}` standing."""
    log = AuditLog(folder, max_bytes=max_bytes)
    for record in records:
        log.append(record, [{"standing": 0}])
    log.close()
    return log


def test_records_come_back_in_their_order_after_what_stood_before_them(tmp_path: Path) -> None:
    assert written(tmp_path, {"a": 1}, {"a": 2}).read() == [{"standing": 0}, {"a": 1}, {"a": 2}]


def test_an_empty_folder_has_no_records(tmp_path: Path) -> None:
    assert written(tmp_path / "new").read() == []


def test_a_torn_last_line_is_skipped_aloud_and_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    written(tmp_path, {"a": 1})
    path = tmp_path / "audit.jsonl"
    with path.open("ab") as file:
        file.write(b'{"a": 2, "tor')
    with capture_logs() as logs:
        assert written(tmp_path, {"a": 3}).read() == [{"standing": 0}, {"a": 1}, {"a": 3}]
    assert [(entry["event"], entry["lines"]) for entry in logs] == [
        ("skipped broken lines of the audit log", 1)
    ]


@pytest.mark.parametrize("junk", [b"\xff\xfe\n", b"[1]\n", b"\0" * 200_000 + b"\n", b"{" * 100_000 + b"\n"])
def test_whatever_stands_in_the_file_the_good_lines_are_read(tmp_path: Path, junk: bytes) -> None:
    written(tmp_path)
    (tmp_path / "audit.jsonl").write_bytes(b'{"a": 1}\n' + junk + b'{"a": 2}\n')
    with capture_logs() as logs:
        assert AuditLog(tmp_path).read() == [{"a": 1}, {"a": 2}]
    assert len(logs) == 1


def test_a_full_file_is_put_aside_and_the_one_before_it_goes(tmp_path: Path) -> None:
    log = written(tmp_path, *({"number": number} for number in range(200)))
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"audit.jsonl", "audit.jsonl.1"}
    assert max(sizes.values()) <= 1_000
    found = log.read()
    numbers = [record["number"] for record in found if "number" in record]
    assert numbers == list(range(numbers[0], 200))
    assert found.count({"standing": 0}) == 2, "each file begins with what stands"


def test_each_line_is_there_when_the_log_was_closed_and_the_thread_is_gone(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for number in range(50):
        log.append({"a": number})
    log.close()
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("naiad-audit-log")]


def test_a_folder_that_goes_away_is_logged_and_nothing_is_raised(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    log = AuditLog(folder)
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    with capture_logs() as logs:
        log.append({"a": 1})
        log.close()
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("cannot write the audit log", "No such file or directory")
    ]


def test_more_than_may_wait_for_a_slow_disk_is_left_out_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "MAX_WAITING", 2)
    synced = threading.Event()
    entered = threading.Event()

    def slow(_: int) -> None:
        entered.set()
        assert synced.wait(30)

    monkeypatch.setattr(os, "fsync", slow)
    log = AuditLog(tmp_path)
    with capture_logs() as logs:
        for number in range(3):
            log.append({"a": number})
    assert entered.wait(30)
    synced.set()
    log.close()
    assert [entry["reason"] for entry in logs] == ["2 wait for the disk"]
    assert log.read() == [{"a": 0}, {"a": 1}]


def test_after_its_end_a_record_is_left_out_aloud(tmp_path: Path) -> None:
    log = written(tmp_path)
    with capture_logs() as logs:
        log.append({"a": 1})
    assert [entry["reason"] for entry in logs] == ["it is closed"]
    assert log.read() == []


def test_a_pipe_in_the_files_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.jsonl")
    with pytest.raises(InvalidArgumentError, match="is no regular file"):
        AuditLog(tmp_path)


def test_an_old_file_that_cannot_be_read_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl.1").mkdir()
    with pytest.raises(
        InvalidArgumentError, match=r"cannot read .*audit\.jsonl\.1 \(--experiment-directory\)"
    ):
        AuditLog(tmp_path).read()


def test_lines_are_json_whatever_the_text(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append({"reason": 'a\nb\u2028"c" \ud800'})
    log.close()
    (line,) = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    assert json.loads(line) == {"reason": 'a\nb\u2028"c" ?'}
