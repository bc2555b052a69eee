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
