"""Finds what a model is loaded from: its folder in a repository, or the files of a load request.

Synchronous and as slow as the disk: it runs in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.reload_plan import ModelView, Sighting, is_unmodified
from naiad.repository.layout import find_folder, read_folder, scan
from naiad.repository.override import OverrideFolder
from naiad.repository.stamps import read_stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from naiad.lifecycle.control import LoadOverride
    from naiad.lifecycle.version_loader import Loader
    from naiad.repository.layout import ModelFolder


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A model's folder and what it says. Whoever holds it closes it when its versions are loaded."""

    folder: ModelFolder
    view: ModelView
    files: OverrideFolder | None = None

    def close(self) -> None:
        """Remove the files that a request brought along. Safe to call twice."""
        if self.files is not None:
            self.files.close()


@dataclass(frozen=True, slots=True)
class Survey:
    """All model folders as they are: when each changed, and which cannot be served and why."""

    folders: Mapping[str, ModelFolder]
    sightings: Mapping[str, Sighting]
    problems: Mapping[str, str]


class SourceFinder:
    """Looks into the model repositories."""

    def __init__(
        self,
        loader: Loader,
        roots: Sequence[Path],
        *,
        find_versions: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        """Create a finder.

        Args:
            loader: reads the configs.
            roots: the model repositories.
            find_versions: the versions of a model whose folder has none, by its name; None for none.
        """
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
        folder = folder or find_folder(self._roots, name)
        stamp = read_stamp(folder)  # before anything is read: what changes after it is seen next time
        if override is None and is_unmodified(served, folder.path, stamp):
            return None
        text = override.config if override else None
        config = self._loader.read_config(folder, text)
        if not folder.versions and self._find_versions is not None:
            folder = replace(folder, versions=tuple(sorted(self._find_versions(name))))
        return Source(folder, ModelView(folder.path, stamp, config, overridden=text is not None))

    def survey(self) -> Survey:
        """Look at every model folder.

        Raises:
            InvalidArgumentError: a repository is missing or cannot be listed.
        """
        found = scan(self._roots)
        return Survey(
            folders={folder.name: folder for folder in found.models},
            sightings={
                folder.name: Sighting(folder.path, read_stamp(folder).modified) for folder in found.models
            },
            problems=found.problems,
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
