"""What models there are and who answers for them: the part of the manager that only looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from naiad.core.errors import NotFoundError
from naiad.lifecycle.caller import CALLER
from naiad.lifecycle.readiness import is_model_ready
from naiad.lifecycle.routing import choose_version
from naiad.lifecycle.states import ReadyState
from naiad.repository.layout import DUPLICATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from naiad.core.errors import NaiadError
    from naiad.lifecycle.caller import Caller
    from naiad.lifecycle.ensembles import WaitingEnsemble
    from naiad.lifecycle.reload_plan import ModelView
    from naiad.lifecycle.version import ModelHandle, ModelVersion, ServingVersion


class VersionChoice(Protocol):
    """An experiment: which version answers a request that names none."""

    def choose(self, caller: Caller) -> int | None:
        """The version for a caller, one that serves; None if none of the experiment may answer."""
        ...

    @property
    def standing(self) -> int | None:
        """The version of who takes no part: the baseline, or what took its place; None if none serves."""
        ...


@dataclass(slots=True)
class Model:
    """A model by name: its versions, or why it could not be loaded at all.

    `served` is what the versions that serve were loaded from, None if none serves. `unreadable` says that
    `problem` came up before there was a valid config, `is_guest` that what serves came with a request,
    `is_explicit` that it was loaded by its own name. `waiting` is an ensemble that does not go with its
    models. `refused_change` is why what lies in the repository is not what serves. `experiment` chooses among
    the versions that serve; without one it is the latest.
    """

    name: str
    versions: dict[int, ModelVersion] = field(default_factory=dict)
    problem: NaiadError | None = None
    served: ModelView | None = None
    unreadable: bool = False
    is_guest: bool = False
    is_explicit: bool = False
    waiting: WaitingEnsemble | None = None
    load_failures: int = 0
    refused_change: NaiadError | None = None
    experiment: VersionChoice | None = None

    @property
    def ready(self) -> dict[int, ServingVersion]:
        """The versions that serve."""
        return {
            number: entry.serving
            for number, entry in self.versions.items()
            if entry.state is ReadyState.READY and entry.serving is not None
        }


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index: a version, or a model without one (`version` and `state` None)."""

    name: str
    version: int | None = None
    state: ReadyState | None = None
    reason: NaiadError | str = ""


class ModelRegistry:
    """The known models. All methods belong to the event loop's thread."""

    def __init__(self, *, ready_while_loading: bool = False) -> None:
        self._models: dict[str, Model] = {}
        self._ready_while_loading = ready_while_loading

    def acquire(self, name: str, version: int | None, caller: Caller | None = None) -> ModelHandle:
        """A handle on the version that should answer.

        Args:
            name: the model.
            version: the one asked for; None lets the server choose.
            caller: who asks; None for the one whose call the task works on.

        Raises:
            NotFoundError: no such model or version, or none is ready.
            UnavailableError: the version asked for is not ready.
        """
        model = self._models.get(name)
        if model is not None and version is None:
            caller = CALLER.get() if caller is None else caller
            version = caller.version_of(name)
            if version is None:
                chosen = _chosen(model, caller)
                if chosen is not None:
                    return chosen.acquire()
        states = None
        if model is not None and (model.versions or model.problem is None):
            states = {number: entry.state for number, entry in model.versions.items()}
        number = choose_version(name, version, states)
        assert model is not None
        entry = model.versions[number]
        assert entry.serving is not None
        return entry.serving.acquire()

    def models(self) -> Iterator[Model]:
        """Every known model, sorted by name."""
        return iter(sorted(self._models.values(), key=lambda model: model.name))

    def model_names(self) -> list[str]:
        """The names of every known model, sorted."""
        return sorted(self._models)

    def ready_versions(self, name: str) -> list[ServingVersion]:
        """What serves model `name` now, ascending by version."""
        model = self._models.get(name)
        return [version for _, version in sorted(model.ready.items())] if model else []

    def is_ready(self, name: str, version: int | None) -> bool:
        """Whether that version, or with None any version, answers."""
        return any(version in (None, serving.key.version) for serving in self.ready_versions(name))

    def all_ready(self) -> bool:
        """Whether every known model version serves or was unloaded on purpose, itself or what it needs.

        A version that failed beside an old one that still serves counts too, as in Triton, unless the
        registry is ready while it loads. Models that nobody has asked for do not.
        """
        return all(map(self._is_ready, self._models.values()))

    def not_ready(self) -> list[str]:
        """The names of the models because of which `all_ready` is false, sorted."""
        return [model.name for model in self.models() if not self._is_ready(model)]

    def _is_ready(self, model: Model) -> bool:
        return is_model_ready(model, while_loading=self._ready_while_loading)


def standing_version(model: Model | None, ready: Mapping[int, ServingVersion]) -> ServingVersion | None:
    """What stands for a model where nobody asks: the steps of ensembles, metadata.

    Args:
        model: the model.
        ready: its versions that serve.
    """
    if model is not None and model.experiment is not None:
        number = model.experiment.standing
        return None if number is None else ready.get(number)
    return ready[max(ready)] if ready else None


def _chosen(model: Model, caller: Caller) -> ServingVersion | None:
    """What answers a request that names no version: as its experiment says, or the latest."""
    if model.experiment is not None:
        number = model.experiment.choose(caller)
        entry = None if number is None else model.versions.get(number)
        if entry is None or entry.serving is None:
            # Not the latest: that may be what was rolled back.
            raise NotFoundError(f"Request for unknown model: '{model.name}' has no available versions")
        return entry.serving
    return _latest_ready(model)


def _latest_ready(model: Model) -> ServingVersion | None:
    """What `choose_version` chooses for a request that names no version, without a dict of all states."""
    chosen, latest = None, -1
    for number, entry in model.versions.items():
        if number > latest and entry.state is ReadyState.READY:
            chosen, latest = entry.serving, number
    return chosen


def index_entries(
    models: Mapping[str, Model], folders: Mapping[str, Sequence[Path]], *, ready_only: bool = False
) -> list[IndexEntry]:
    """The repository index as Triton gives it: what is on disk, with the states of what was loaded.

    A model loaded from files of a request has no folder and is not in it, nor is one whose version policy
    selects nothing; one that was never loaded has a line with only its name.

    Args:
        models: the known models by name.
        folders: the folders of each name in the repositories.
        ready_only: leave out what does not serve.
    """
    entries: list[IndexEntry] = []
    for name, paths in sorted(folders.items()):
        if len(paths) > 1:
            entries.append(IndexEntry(name, None, ReadyState.UNAVAILABLE, DUPLICATE))
        else:
            entries += _model_entries(name, models.get(name))
    return [entry for entry in entries if not ready_only or entry.state is ReadyState.READY]


def _model_entries(name: str, model: Model | None) -> list[IndexEntry]:
    if model is None or model.unreadable:
        return [IndexEntry(name)]
    return [
        IndexEntry(name, number, entry.state, entry.reason)
        for number, entry in sorted(model.versions.items())
    ]
