"""Finds what a model is loaded from: its folder in a repository, or the files of a load request.

Synchronous and as slow as the disk: it runs in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from naiad.config.experiment_reader import read_experiment
from naiad.config.runtime_keys import EXPERIMENT
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.reload_plan import ModelView, Sighting, is_unmodified
from naiad.repository.layout import find_folder, read_folder, scan
from naiad.repository.override import OverrideFolder
from naiad.repository.places import read_places
from naiad.repository.stamps import read_stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from naiad.config.experiment_config import ExperimentConfig
    from naiad.lifecycle.control import LoadOverride
    from naiad.lifecycle.version_loader import Loader
    from naiad.repository.layout import ModelFolder
    from naiad.repository.places import Place


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A model's folder and what it says. Whoever holds it closes it when its versions are loaded."""

    folder: ModelFolder
    view: ModelView
    files: OverrideFolder | None = None
    experiment: ExperimentConfig | None = None

    def close(self) -> None:
        """Remove the files that a request brought along. Safe to call twice."""
        if self.files is not None:
            self.files.close()


@dataclass(frozen=True, slots=True)
class Survey:
    """All model folders as they are: when each changed, and which cannot be served and why.

    `places` are the folders that may be put elsewhere without a change in what is above them, the
    repositories themselves and folders that are links, each with what identifies it on its device.
    """

    folders: Mapping[str, ModelFolder]
    sightings: Mapping[str, Sighting]
    problems: Mapping[str, str]
    places: Mapping[Path, Place] = field(default_factory=dict)


class SourceFinder:
    """Looks into the model repositories."""

    def __init__(
        self,
        loader: Loader,
        roots: Sequence[Path],
        *,
        find_versions: Callable[[str], Sequence[int]] | None = None,
        ready_marker: str = "",
    ) -> None:
        """Create a finder.

        Args:
            loader: reads the configs.
            roots: the model repositories.
            find_versions: the versions of a model whose folder has none, by its name; None for none.
            ready_marker: the file that a version's folder must hold to count; "" for none.
        """
        self._ready_marker = ready_marker
        self._loader = loader
        self._find_versions = find_versions
        self._roots = tuple(roots)

    def find(
        self,
        name: str,
        *,
        override: LoadOverride | None = None,
        folder: ModelFolder | None = None,
        served: ModelView | None = None,
    ) -> Source | None:
        """What to load model `name` from; None if what is served came from there and nothing has changed.

        Args:
            name: the model.
            override: what a request brings along.
            folder: the model's folder if that is known.
            served: what the versions that serve were loaded from.

        Raises:
            NaiadError: there is no such folder, or its config is wrong, or the request's files are.
        """
        if override is not None and override.files:
            return self._from_files(name, override)
        folder = folder or find_folder(self._roots, name, marker=self._ready_marker)
        stamp = read_stamp(folder)  # before anything is read: what changes after it is seen next time
        if override is None and is_unmodified(served, folder.path, stamp):
            return None
        text = override.config if override else None
        config = self._loader.read_config(folder, text)
        if not (folder.versions or folder.unmarked) and self._find_versions is not None:
            folder = replace(folder, versions=tuple(sorted(self._find_versions(name))))
        experiment = read_experiment(folder.path, config.parameters.get(EXPERIMENT))
        view = ModelView(folder.path, stamp, config, overridden=text is not None)
        return Source(folder, view, experiment=experiment)

    def survey(self) -> Survey:
        """Look at every model folder.

        Raises:
            InvalidArgumentError: a repository is missing or cannot be listed.
        """
        # Before what lies in it is read: who watches what was replaced meanwhile watches the wrong one.
        places = read_places(self._roots)
        found = scan(self._roots, marker=self._ready_marker)
        return Survey(
            folders={folder.name: folder for folder in found.models},
            sightings={folder.name: Sighting.of(folder.path, read_stamp(folder)) for folder in found.models},
            problems=found.problems,
            places=places,
        )

    def _from_files(self, name: str, override: LoadOverride) -> Source:
        if override.config is None:
            raise InvalidArgumentError("Load parameter 'config' must be specified for model file override")
        files = OverrideFolder.create(name, override.files)
        try:
            folder = read_folder(files.path)
            config = self._loader.read_config(folder, override.config)
            view = ModelView(folder.path, read_stamp(folder), config, overridden=True)
            return Source(folder, view, files)
        except BaseException:
            files.close()
            raise
