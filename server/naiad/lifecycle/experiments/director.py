"""All experiments of a server: they come and go with their models' files. Used on the event loop's thread."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from naiad.core.errors import InvalidArgumentError, NotFoundError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside import (
    AsideProcess,
    AsideSettings,
    JobFailed,
    KeepWorst,
)
from naiad.lifecycle.experiments.decisions import Decisions
from naiad.lifecycle.experiments.experiment import Experiment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from naiad.config.experiment_config import ExperimentConfig
    from naiad.config.model_config import ModelConfig
    from naiad.lifecycle.experiments.aside import AsideFigures, AsideResult
    from naiad.lifecycle.experiments.decisions import Kind
    from naiad.lifecycle.version import ServingVersion
    from naiad.repository.layout import ModelFolder

log = structlog.get_logger(__name__)

TICK_S = 1.0
"""Seconds between two looks at the evidence, and at the ramps."""

WORST_FOLDER = "worst"
"""Below the folder of experiments: the requests that a shadow disagreed on most, by model and version."""


@dataclass(slots=True)
class _Entry:
    experiment: Experiment
    folder: ModelFolder
    config: ModelConfig
    aside: dict[int, ServingVersion] = field(default_factory=dict)
    """The versions that the process aside knows, as they served when it was told."""
    problem: str = ""
    """Why the shadow's candidate does not run."""


class Experiments:
    """Owns every experiment, the process aside, the decisions, and the task that judges."""

    def __init__(
        self,
        settings: AsideSettings | None = None,
        *,
        folder: Path | None = None,
        tick_s: float = TICK_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Begin without an experiment. Nothing runs before the first one comes.

        Args:
            settings: the limits of the process aside.
            folder: where decisions and the worst disagreements are kept; None keeps decisions in memory.
            tick_s: seconds between two looks at the evidence.
            now: seconds since 1970.

        Raises:
            InvalidArgumentError: the folder cannot be used.
        """
        self.decisions = Decisions(folder)
        self.on_change: Callable[[], None] | None = None
        """Called when a decision has changed who answers; set by the one who owns the versions."""
        self._settings = settings or AsideSettings()
        self._folder = folder
        self._tick_s = tick_s
        self._now = now
        self._entries: dict[str, _Entry] = {}
        self._aside: AsideProcess | None = None
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many are in force."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Experiment]:
        """The experiments in force, by their models' names."""
        return iter([entry.experiment for _, entry in sorted(self._entries.items())])

    @property
    def aside(self) -> AsideProcess:
        """The process that looks into answers; it starts with its first job."""
        if self._aside is None:
            self._aside = AsideProcess(self._settings)
        return self._aside

    @property
    def aside_figures(self) -> AsideFigures | None:
        """What the process aside has done so far; None if there was no experiment yet."""
        return None if self._aside is None else self._aside.figures

    def get(self, model: str) -> Experiment:
        """The experiment of a model.

        Raises:
            NotFoundError: it has none.
        """
        entry = self._entries.get(model)
        if entry is None:
            raise NotFoundError(f"model '{model}' has no experiment in force")
        return entry.experiment

    def problem_of(self, model: str) -> str:
        """Why the shadow of the model's experiment does not run; empty if it does, or has none."""
        return self._entries[model].problem

    def adopt(
        self, model: str, config: ExperimentConfig | None, folder: ModelFolder, model_config: ModelConfig
    ) -> Experiment | None:
        """Put what a model's file says in force; None ends its experiment.

        Args:
            model: its name.
            config: what the file says.
            folder: the model's.
            model_config: as read from the folder, not completed.

        Returns:
            The experiment, the same one if the file says what it said before. It has its versions with
            `bind`.
        """
        known = self._entries.get(model)
        if config is None:
            self.leave(model)
            return None
        if known is not None and known.experiment.config.digest == config.digest:
            known.folder, known.config = folder, model_config
            return known.experiment
        self.leave(model)
        now_s = self._now()
        experiment = Experiment(model, config, aside=self.aside, decisions=self.decisions, now_s=now_s)
        experiment.on_change = self._changed
        if known is not None:
            experiment.follow(known.experiment)
        self._entries[model] = _Entry(experiment, folder, model_config)
        log.info("experiment in force", model=model, **_said(config))
        if config.shadow is not None and config.shadow.keep_worst and self._folder is None:
            log.warning(
                "nothing is kept",
                model=model,
                detail="shadow.keep_worst needs the server's --experiment-directory",
                who="operator",
            )
        self._pace()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="judge experiments")
        return experiment

    def bind(self, model: str, serving: Mapping[int, ServingVersion]) -> None:
        """Tell a model's experiment, if it has one, which versions serve now."""
        entry = self._entries.get(model)
        if entry is None:
            return
        self._tell_aside(model, entry, serving)
        entry.experiment.bind(serving, self._now())

    def leave(self, model: str) -> None:
        """End a model's experiment, if it has one."""
        entry = self._entries.pop(model, None)
        if entry is None:
            return
        entry.experiment.leave()
        for number in entry.aside:
            self.aside.close_model(ModelKey(model, number))
        self._pace()
        log.info("experiment ended", model=model, experiment=entry.experiment.config.name)

    def decide(self, model: str, kind: Kind, candidate: int | None, reason: str, by: str) -> None:
        """Decide by hand.

        Args:
            model: its experiment must be in force.
            kind: roll_back, promote or resume.
            candidate: the version; None resumes all.
            reason: why, in words.
            by: who decides.

        Raises:
            NotFoundError: the model has no experiment.
            InvalidArgumentError: it has no such candidate.
        """
        experiment = self.get(model)
        candidates = experiment.config.candidates
        known = f"candidates of the experiment on '{model}' are {', '.join(map(str, candidates))}"
        if candidate is None and kind != "resume":
            raise InvalidArgumentError(f"no version is named: {known}")
        if candidate is not None and candidate not in candidates:
            raise InvalidArgumentError(f"version {candidate} is no candidate: {known}")
        now_s = self._now()
        experiment.decide(experiment.decision(kind, candidate, reason, by, now_s), now_s)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    async def close(self) -> None:
        """End the judging and the process aside, and write down what was decided."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for model in list(self._entries):
            self._entries.pop(model).experiment.leave()
        if self._aside is not None:
            await self._aside.close()
        await asyncio.to_thread(self.decisions.close)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            for experiment in self:
                try:
                    experiment.tick(self._now())
                except Exception as error:  # a defect in one experiment must not end all of them
                    log.error(
                        "failed to judge", model=experiment.model, who="naiad developers", exc_info=error
                    )

    def _tell_aside(self, model: str, entry: _Entry, serving: Mapping[int, ServingVersion]) -> None:
        """Let the process aside know the versions whose answers it looks into, and the one that it runs."""
        shadow = entry.experiment.config.shadow
        for number in list(entry.aside):
            if number not in serving:
                self.aside.close_model(ModelKey(model, number))
                del entry.aside[number]
        for number in entry.experiment.config.versions:
            version = serving.get(number)
            if version is None or entry.aside.get(number) is version:
                continue
            entry.aside[number] = version
            if shadow is None or number != shadow.version:
                self.aside.read_model(version.key, version.config)
            else:
                self._open_candidate(entry, version)

    def _open_candidate(self, entry: _Entry, version: ServingVersion) -> None:
        shadow = entry.experiment.config.shadow
        guard = entry.experiment.config.guard
        assert shadow is not None
        keep = None
        if shadow.keep_worst and self._folder is not None:
            folder = self._folder / WORST_FOLDER / version.key.name / str(version.key.version)
            keep = KeepWorst(folder, shadow.keep_worst, entry.experiment.config.digest)
        self.aside.open_model(
            version.key,
            entry.folder,
            entry.config,
            keep=keep,
            same_space=guard is not None and guard.min_cosine is not None,
            done=partial(_opened, entry),
        )

    def _pace(self) -> None:
        """The process aside may take what the shadows' files name, or the default where none does.

        Under a CPU quota the default is smaller than the file's: what is idle counts there like all else.
        """
        shadows = [entry.experiment.config.shadow for entry in self._entries.values()]
        named = [each.budget for each in shadows if each is not None and "budget" in each.model_fields_set]
        self.aside.budget_cpus = sum(named) if named else self._settings.budget_cpus


def _opened(entry: _Entry, result: AsideResult) -> None:
    entry.problem = result.reason if isinstance(result, JobFailed) else ""
    if entry.problem:
        log.error(
            "shadow does not run", model=entry.experiment.model, reason=entry.problem, who="model owner"
        )


def _said(config: ExperimentConfig) -> dict[str, object]:
    """What an experiment is, for the log."""
    shadow = config.shadow
    return {
        "experiment": config.name,
        "baseline": config.baseline,
        "weights": dict(config.weights),
        "shadow": None if shadow is None else shadow.version,
        "guard": config.guard is not None,
    }
