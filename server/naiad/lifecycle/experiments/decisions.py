"""What was decided about experiments: who was rolled back or promoted, in force and as history.

Used on the event loop's thread. With a folder, `audit_log` writes each decision from a thread of its own.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import structlog
from pydantic import TypeAdapter

from naiad.lifecycle.experiments.audit_log import AuditLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

Kind = Literal["roll_back", "promote", "resume"]
GUARD = "guard"
"""Who decides where no person does."""
MAX_HISTORY = 1_000
"""Decisions that are kept in memory of each model."""
MAX_TEXT_CHARACTERS = 2_000
"""Longer reasons are cut."""

_STANDING = "standing"
"""Marks a record that is told again at the head of a new file, and is not a decision of its own."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on one candidate of one model's experiment.

    `digest` is the experiment's, `candidate` the version, or None in a "resume" of all of them. `reason` is a
    sentence, `by` who decided ("guard", or a person's or program's name), `at` seconds since 1970. One of a
    `dry_run` is told and never in force.
    """

    kind: Kind
    model: str
    experiment: str
    digest: str
    candidate: int | None
    reason: str
    by: str
    at: float
    dry_run: bool = False


class Decisions:
    """Every model's decisions. One server's: replicas need a folder each."""

    def __init__(self, folder: Path | None = None) -> None:
        """Begin with what the folder's audit log says is in force, or with nothing.

        Args:
            folder: where the audit log is, made if it is not there; None keeps decisions in memory alone.

        Raises:
            InvalidArgumentError: the folder cannot be made, read or written to.
        """
        self._histories: dict[str, deque[Decision]] = {}
        self._in_force: dict[str, tuple[Decision, ...]] = {}
        self._counts: Counter[tuple[str, Kind, bool]] = Counter()
        self._log: AuditLog | None = None
        if folder is None:
            return
        self._log = AuditLog(folder)
        unknown = [record for record in self._log.read() if not self._replay(record)]
        if unknown:
            log.warning(
                "skipped unknown records of the audit log",
                who="operator",
                path=str(folder),
                records=len(unknown),
                first=str(unknown[0])[:MAX_TEXT_CHARACTERS],
            )

    def add(self, decision: Decision) -> None:
        """Take a decision: at once here, soon in the audit log. No failure to write it is raised."""
        decision = replace(decision, reason=_cut(decision.reason), by=_cut(decision.by))
        if self._log is not None:
            held = (entry for entries in self._in_force.values() for entry in entries)
            self._log.append(_to_record(decision), (_to_record(entry) | {_STANDING: True} for entry in held))
        self._apply(decision)
        self._remember(decision)
        self._counts[decision.model, decision.kind, decision.by == GUARD] += not decision.dry_run

    def count(self, model: str, kind: Kind, *, by_guard: bool) -> int:
        """Decisions on a model that were made by this process, whatever experiment they were made in.

        Args:
            model: its name.
            kind: of the decisions.
            by_guard: those by the guard, else those by anybody else. Dry runs are not among them.
        """
        return self._counts[model, kind, by_guard]

    def in_force(self, model: str, digest: str) -> Decision | None:
        """The latest roll-back or promotion that holds for the model's experiment of that digest, or None."""
        held = self.all_in_force(model, digest)
        return held[-1] if held else None

    def all_in_force(self, model: str, digest: str) -> tuple[Decision, ...]:
        """What holds for each candidate of the model's experiment of that digest, oldest first."""
        return tuple(held for held in self._in_force.get(model, ()) if held.digest == digest)

    def rolled_back(self, model: str, digest: str) -> Mapping[int, Decision]:
        """The candidates that are withdrawn from the model's experiment of that digest, and by what."""
        held = self.all_in_force(model, digest)
        return {
            entry.candidate: entry
            for entry in held
            if entry.kind == "roll_back" and entry.candidate is not None
        }

    def promoted(self, model: str, digest: str) -> Decision | None:
        """The promotion that holds in the model's experiment of that digest, or None."""
        held = self.all_in_force(model, digest)
        return next((entry for entry in reversed(held) if entry.kind == "promote"), None)

    def history(self, model: str) -> list[Decision]:
        """The model's last `MAX_HISTORY` decisions, oldest first, whatever experiment they were made in."""
        return list(self._histories.get(model, ()))

    def may_decide(self, model: str, now: float, cooldown_s: float) -> bool:
        """Whether the last decision on the model, of any kind, is long enough ago.

        Args:
            model: its name.
            now: seconds since 1970.
            cooldown_s: the experiment's `guard.cooldown_s`.
        """
        history = self._histories.get(model)
        if not history:
            return True
        passed_s = now - history[-1].at
        return passed_s >= cooldown_s or passed_s < 0  # a clock that was set back must not hold a guard

    def close(self) -> None:
        """Wait until all is written; nothing may be added afterwards."""
        if self._log is not None:
            self._log.close()

    def _replay(self, record: Mapping[str, Any]) -> bool:
        """Take a decision of an earlier run; False if the record is none."""
        decision = _from_record(record)
        if decision is None:
            return False
        self._apply(decision)
        if not record.get(_STANDING):
            self._remember(decision)
        return True

    def _remember(self, decision: Decision) -> None:
        self._histories.setdefault(decision.model, deque(maxlen=MAX_HISTORY)).append(decision)

    def _apply(self, decision: Decision) -> None:
        held = after(self._in_force.get(decision.model, ()), decision)
        if held:
            self._in_force[decision.model] = held
        else:
            self._in_force.pop(decision.model, None)


def after(held: tuple[Decision, ...], decision: Decision) -> tuple[Decision, ...]:
    """What is in force on a model once `decision` was made, oldest first. Pure.

    A decision on another digest ends all that held: the file was edited since. A roll-back or promotion takes
    the place of what held for that candidate, and a promotion that of another one's.
    """
    if decision.dry_run:
        return held
    same = [entry for entry in held if entry.digest == decision.digest]
    if decision.kind == "resume":
        return tuple(entry for entry in same if decision.candidate not in {None, entry.candidate})
    kept = [
        entry
        for entry in same
        if entry.candidate != decision.candidate and not (entry.kind == decision.kind == "promote")
    ]
    return (*kept, decision)


_DECISION: TypeAdapter[Decision] = TypeAdapter(Decision)


def _to_record(decision: Decision) -> dict[str, Any]:
    """A decision as the audit log has it: its time as text, which people read too."""
    return asdict(decision) | {"at": datetime.fromtimestamp(decision.at, UTC).isoformat()}


def _from_record(record: Mapping[str, Any]) -> Decision | None:
    """The decision of a record; None where it is none, or one that this release does not know."""
    try:
        at = datetime.fromisoformat(record["at"]).timestamp()
        return _DECISION.validate_python(dict(record) | {"at": at})
    except (KeyError, TypeError, ValueError, OverflowError):  # pydantic's error is a ValueError
        return None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[: MAX_TEXT_CHARACTERS - 1] + "…"
