"""What a change in the repository means: which versions of which models to load, keep, unload. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.repository.stamps import FolderStamp


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model's folder as it was when it was looked at.

    `overridden` says that a load request brought along the config or the files.
    """

    path: Path
    stamp: FolderStamp
    config: ModelConfig
    overridden: bool = False


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """The versions of a model to load, to leave as they are, and to unload; each ascending."""

    load: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()
    unload: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositoryDiff:
    """The names of the models that came, changed and went since the last look; each sorted.

    `experiments` are models that were there before and whose `experiment.json` came, changed or went.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a model's folder was found, when it last changed, in nanoseconds, and what it held.

    The last three are as in a `FolderStamp`.
    """

    path: Path
    modified: int
    names: tuple[str, ...] = ()
    experiment: int = 0
    content: int = 0

    @classmethod
    def of(cls, path: Path, stamp: FolderStamp) -> Sighting:
        """What a look at the folder at `path` found."""
        return cls(path, stamp.modified, stamp.names, stamp.experiment, stamp.content)


def is_unmodified(served: ModelView | None, path: Path, stamp: FolderStamp) -> bool:
    """Whether what is served came from this folder, which has not changed since.

    As in Triton, only a later time is a change, beside what came or went: a config that a request brought
    along stays in force until the folder changes or the model is unloaded. Files that a request brought along
    came from another folder.
    """
    return (
        served is not None
        and served.path == path
        and stamp.modified <= served.stamp.modified
        and stamp.names == served.stamp.names
        and stamp.experiment == served.stamp.experiment
    )


def plan_reload(
    served: ModelView | None, view: ModelView, *, serving: Collection[int], wanted: Collection[int]
) -> ReloadPlan:
    """The way from the versions that serve to those that are wanted.

    Args:
        served: what the serving versions were loaded from; None if none serves.
        view: the folder as it is now.
        serving: the versions that serve.
        wanted: those that the version policy selects now.
    """
    keep = {version for version in wanted if version in serving and _is_kept(served, view, version)}
    return ReloadPlan(
        load=tuple(sorted(set(wanted) - keep)),
        keep=tuple(sorted(keep)),
        unload=tuple(sorted(set(serving) - set(wanted))),
    )


def _is_kept(served: ModelView | None, view: ModelView, version: int) -> bool:
    """Whether loading the version anew would give the same."""
    if served is None or served.overridden or view.overridden or served.path != view.path:
        return False
    if served.config != view.config or view.stamp.shared > served.stamp.shared:
        return False
    return view.stamp.versions.get(version, 0) <= served.stamp.versions.get(version, 0)


def diff_repository(before: Mapping[str, Sighting], now: Mapping[str, Sighting]) -> RepositoryDiff:
    """What changed between two looks at the repositories, by model name."""
    return RepositoryDiff(
        added=tuple(sorted(now.keys() - before.keys())),
        changed=tuple(
            sorted(name for name in now.keys() & before.keys() if _has_changed(before[name], now[name]))
        ),
        removed=tuple(sorted(before.keys() - now.keys())),
        experiments=tuple(
            sorted(
                name for name in now.keys() & before.keys() if now[name].experiment != before[name].experiment
            )
        ),
    )


def _has_changed(before: Sighting, now: Sighting) -> bool:
    return now.path != before.path or now.modified > before.modified or now.names != before.names
