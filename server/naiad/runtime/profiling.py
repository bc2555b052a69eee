"""Which models' runs the engine writes profiles of, and where. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Profiles:
    """Profiles of the named `models`, in `folder`, which exists."""

    folder: Path
    models: frozenset[str]


def profile_prefix(profiles: Profiles | None, model: str, file: Path, instance: str) -> Path | None:
    """The start of the path of a session's profile, None if it has none; the engine adds the time.

    Args:
        profiles: those that an operator asked for.
        model: its name.
        file: the model's, in its version's folder.
        instance: the first that runs the session.
    """
    if profiles is None or model not in profiles.models:
        return None
    return profiles.folder / f"{model}-{file.parent.name}-{instance}"


def profile_notes(profiles: Profiles | None, model: str) -> tuple[str, ...]:
    """A sentence on the model's profile, if it has one."""
    if profiles is None or model not in profiles.models:
        return ()
    return (
        f"its runs are profiled, which slows them down: {profiles.folder} has the file once it is unloaded",
    )
