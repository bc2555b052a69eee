"""Builds the TensorRT engines of a model repository ahead of serving, as for an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.config.experiment_reader import read_experiment
from naiad.config.runtime_keys import EXPERIMENT
from naiad.core.errors import NaiadError
from naiad.repository.layout import scan
from naiad.repository.version_policy import select_versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from naiad.lifecycle.loading import RepositoryLoader
    from naiad.repository.layout import ModelFolder

_ACCELERATOR = "tensorrt"


class EngineReport(NamedTuple):
    """What became of one version's engine: `swapped` if it is in the cache now, else why not."""

    model: str
    state: str
    reason: str = ""
    seconds: float = 0.0

    @property
    def is_built(self) -> bool:
        """Whether a server will find it."""
        return self.state == "swapped"


def build_engines(roots: Sequence[Path], loader: RepositoryLoader) -> Iterator[EngineReport]:
    """Load every version that asks for TensorRT, wait for its engine, and let it go again.

    Args:
        roots: the model repositories.
        loader: with an engine service that waits for every engine.

    Raises:
        InvalidArgumentError: a repository cannot be listed.
    """
    found = scan(roots)
    for name, problem in found.problems.items():
        yield EngineReport(name, "failed", problem)
    for folder in found.models:
        yield from _build_model(folder, loader)


def _build_model(folder: ModelFolder, loader: RepositoryLoader) -> Iterator[EngineReport]:
    try:
        config = loader.read_config(folder)
        if all(accelerator.name != _ACCELERATOR for accelerator in config.gpu_accelerators):
            return
        experiment = read_experiment(folder.path, config.parameters.get(EXPERIMENT))
        selection = select_versions(
            config.version_policy,
            folder.versions,
            model_name=folder.name,
            experiment=experiment.versions if experiment else (),
        )
    except NaiadError as error:
        yield EngineReport(folder.name, "failed", error.message)
        return
    for version in selection.selected:
        name = f"{folder.name}/{version}"
        try:
            loaded = loader.load(folder, version, config).version
        except NaiadError as error:
            yield EngineReport(name, "failed", error.message)
            continue
        try:
            build = loaded.engine.build if loaded.engine is not None else None
            if build is None:
                yield EngineReport(name, "failed", "; ".join(loaded.current_fallbacks))
            else:
                status = build.status
                yield EngineReport(name, status.state.value, status.reason, status.seconds)
        finally:
            loaded.close()
