"""Decisions: what holds, until when, and that a restart forgets none of it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.experiments import decisions as subject
from naiad.lifecycle.experiments.audit_log import AuditLog
from naiad.lifecycle.experiments.decisions import MAX_TEXT_CHARACTERS, Decision, Decisions, after

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BACK = Decision("roll_back", "m", "m-2", "d1", 2, "error rate 5.2 %", "guard", 1_764_583_200.25)
UP = replace(BACK, kind="promote", reason="10000 requests within every limit")
RESUME = replace(BACK, kind="resume", by="anna", reason="mended")


@pytest.fixture
def memory() -> Iterator[Decisions]:
    store = Decisions()
    yield store
    store.close()


def rerun(folder: Path, *added: Decision) -> Decisions:
    """A store over the folder to which the decisions were added by an earlier run; it is closed."""
    earlier = Decisions(folder)
    for decision in added:
        earlier.add(decision)
    earlier.close()
    later = Decisions(folder)
    later.close()
    return later


def test_a_roll_back_holds_for_its_model_and_digest_alone(memory: Decisions) -> None:
    memory.add(BACK)
    assert memory.in_force("m", "d1") == BACK
    assert memory.in_force("m", "d2") is None
    assert memory.in_force("n", "d1") is None
    assert memory.rolled_back("m", "d1") == {2: BACK}
    assert memory.promoted("m", "d1") is None


def test_a_resume_ends_what_held_for_its_candidate(memory: Decisions) -> None:
    other = replace(BACK, candidate=3)
    for decision in (BACK, other, RESUME):
        memory.add(decision)
    assert memory.all_in_force("m", "d1") == (other,)
    memory.add(replace(RESUME, candidate=None))
    assert memory.in_force("m", "d1") is None
    assert [entry.kind for entry in memory.history("m")] == ["roll_back", "roll_back", "resume", "resume"]


def test_each_candidate_is_rolled_back_by_itself(memory: Decisions) -> None:
    other = replace(BACK, candidate=3)
    memory.add(BACK)
    memory.add(other)
    assert memory.rolled_back("m", "d1") == {2: BACK, 3: other}
    assert memory.in_force("m", "d1") == other


def test_a_decision_on_another_digest_ends_what_held_before() -> None:
    """Who edits the file has decided otherwise."""
    newer = replace(BACK, digest="d2", candidate=3)
    assert after((BACK,), newer) == (newer,)
    assert after((BACK,), replace(RESUME, digest="d2")) == ()


def test_one_version_is_promoted_and_a_roll_back_of_it_ends_that() -> None:
    other = replace(UP, candidate=3)
    assert after((UP,), other) == (other,)
    assert after((UP,), BACK) == (BACK,)
    assert after((BACK,), UP) == (UP,)
    kept = replace(BACK, candidate=3)
    assert after((kept,), UP) == (kept, UP)


def test_a_dry_run_is_told_and_changes_nothing(memory: Decisions) -> None:
    dry = replace(BACK, dry_run=True)
    memory.add(dry)
    assert memory.in_force("m", "d1") is None
    assert memory.history("m") == [dry]
    assert not memory.may_decide("m", dry.at + 1, 600)


def test_decisions_of_this_run_are_counted_by_kind_and_by_whom(tmp_path: Path) -> None:
    """A counter of metrics begins at 0 with its process; what a dry run would have done was not done."""
    later = rerun(tmp_path, BACK)
    assert later.count("m", "roll_back", by_guard=True) == 0
    store = Decisions()
    for decision in (BACK, BACK, replace(BACK, dry_run=True), replace(BACK, by="anna"), RESUME):
        store.add(decision)
    assert store.count("m", "roll_back", by_guard=True) == 2
    assert store.count("m", "roll_back", by_guard=False) == 1
    assert store.count("m", "resume", by_guard=False) == 1
    assert store.count("n", "roll_back", by_guard=True) == 0


def test_the_next_decision_waits_for_the_cool_down(memory: Decisions) -> None:
    assert memory.may_decide("m", 0.0, 600)
    memory.add(BACK)
    waited = [memory.may_decide("m", BACK.at + seconds, 600) for seconds in (0, 599, 600)]
    assert waited == [False, False, True]
    assert memory.may_decide("n", BACK.at, 600)
    assert memory.may_decide("m", BACK.at - 3_600, 600), "a clock that was set back must not hold the guard"


def test_history_is_bounded_and_the_oldest_goes_first(
    memory: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "MAX_HISTORY", 3)
    for second in range(5):
        memory.add(replace(BACK, at=float(second)))
    assert [entry.at for entry in memory.history("m")] == [2.0, 3.0, 4.0]
    assert memory.history("unknown") == []


def test_a_long_reason_is_cut(memory: Decisions) -> None:
    memory.add(replace(BACK, reason="x" * 10_000))
    (kept,) = memory.history("m")
    assert len(kept.reason) == MAX_TEXT_CHARACTERS
    assert kept.reason.endswith("x…")


def test_what_is_in_force_and_its_history_outlive_a_restart(tmp_path: Path) -> None:
    later = rerun(tmp_path / "made" / "here", replace(BACK, candidate=3), RESUME, BACK, UP)
    assert later.all_in_force("m", "d1") == (replace(BACK, candidate=3), UP)
    assert later.history("m") == [replace(BACK, candidate=3), RESUME, BACK, UP]


def test_a_resume_outlives_a_restart_too(tmp_path: Path) -> None:
    assert rerun(tmp_path, BACK, RESUME).in_force("m", "d1") is None


def test_the_log_is_one_json_object_a_line_that_people_can_read(tmp_path: Path) -> None:
    rerun(tmp_path, replace(BACK, reason="Fehler 5 %, zu viele ✗"))
    (line,) = (tmp_path / "audit.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "kind": "roll_back",
        "model": "m",
        "experiment": "m-2",
        "digest": "d1",
        "candidate": 2,
        "reason": "Fehler 5 %, zu viele ✗",
        "by": "guard",
        "at": "2025-12-01T10:00:00.250000+00:00",
        "dry_run": False,
    }


def test_records_of_unknown_kinds_are_skipped_aloud_and_unknown_fields_are_not_in_the_way(
    tmp_path: Path,
) -> None:
    rerun(tmp_path, BACK)
    path = tmp_path / "audit.jsonl"
    record = json.loads(path.read_text())
    broken = [record | {"kind": "explode"}, {"a": 1}, record | {"at": "soon"}, record | {"candidate": {}}]
    lines = [*broken, record | {"candidate": 3, "later": "field"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with capture_logs() as logs:
        found = rerun(tmp_path)
    assert [entry.candidate for entry in found.history("m")] == [3]
    assert logs[0]["records"] == 4


def test_a_roll_back_in_force_is_not_lost_with_the_files_that_told_of_it(tmp_path: Path) -> None:
    """Two rotations throw away every line that was there when the roll-back was made."""
    store = Decisions(tmp_path)
    store.add(replace(BACK, model="held"))
    store.close()
    noise = replace(BACK, reason="x" * MAX_TEXT_CHARACTERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "AuditLog", partial(AuditLog, max_bytes=10_000))
        store = Decisions(tmp_path)
        for _ in range(12):
            store.add(noise)
        store.close()
    text = (tmp_path / "audit.jsonl").read_text()
    assert text.count('"standing": true') == 2, "one for each model that something holds for"
    later = rerun(tmp_path)
    assert later.in_force("held", "d1") == replace(BACK, model="held")
    assert later.in_force("m", "d1") == noise
    assert later.history("held") == []
    assert len(later.history("m")) < 12


def test_a_folder_that_cannot_be_written_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgumentError, match=r"audit\.jsonl \(--experiment-directory\): Not a dir"):
        Decisions(tmp_path / "file" / "below")
