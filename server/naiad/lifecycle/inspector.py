"""Looks at model repositories the way a server would load them, and keeps nothing open.

Synchronous: one session at a time is opened and closed again. None is warmed up, but the samples of a
config's `model_warmup` are run, because a load fails with them. Whatever is wrong with one model becomes a
`Problem` in its report; the others are still looked at.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from naiad.config.complete import complete_ensemble_config, complete_model_config
from naiad.config.model_config import VersionPolicyKind
from naiad.config.reader import check_loadable, parse_model_config
from naiad.core.errors import InvalidArgumentError, NaiadError
from naiad.lifecycle.advice import Facts, explain
from naiad.lifecycle.ensemble_inspection import check_steps, plan_ensemble
from naiad.lifecycle.experiment_inspection import inspect_experiment
from naiad.lifecycle.inspection import (
    EngineReport,
    Inspection,
    ModelReport,
    Problem,
    RepositoryReport,
    Stage,
    VersionReport,
)
from naiad.lifecycle.loading import check_gpus, class_labels, vision_model
from naiad.lifecycle.proposals import propose
from naiad.lifecycle.version_plan import plan_version
from naiad.repository.layout import find_folder, level_hint, model_file, scan
from naiad.repository.version_policy import select_versions
from naiad.runtime.cuda.settings import read_cuda_settings
from naiad.runtime.layout import plan_instances
from naiad.runtime.loader import inspect_version
from naiad.runtime.providers import plan_providers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig, VersionPolicy
    from naiad.core.tensors import TensorSpec
    from naiad.lifecycle.inspection import VersionPlan
    from naiad.repository.layout import ModelFolder
    from naiad.runtime.ort_environment import OrtEnvironment
    from naiad.runtime.threads import CpuBudget


class Inspector:
    """Looks at models with one engine and one set of settings, the server's own."""

    def __init__(
        self,
        environment: OrtEnvironment,
        budget: CpuBudget,
        *,
        auto_complete: bool,
        default_max_batch_size: int,
        config_name: str = "",
        measures: bool = False,
    ) -> None:
        """Create an inspector; the arguments are those of `RepositoryLoader`.

        `measures` says that a server would measure layouts; the inspector does not.
        """
        self._measures = measures
        self._config_name = config_name
        self._environment = environment
        self._budget = budget
        self._auto_complete = auto_complete
        self._default_max_batch_size = default_max_batch_size
        self._roots: Sequence[Path] = ()
        self._reports: dict[str, ModelReport] = {}
        self._completed: dict[str, dict[int, ModelConfig]] = {}
        self._at_work: list[str] = []

    def inspect(
        self, roots: Sequence[Path], *, on_model: Callable[[str, int, int], None] = lambda *_: None
    ) -> Inspection:
        """Look at every model of the repositories.

        Args:
            roots: the model repositories; one that cannot be listed is reported, not raised.
            on_model: called before each model with its name, how many are done, and how many there are.

        Returns:
            the models sorted by name, the repositories in the given order, each once.
        """
        roots = list(dict.fromkeys(roots))
        problems = {root: _root_problem(root) for root in roots}
        self._roots = [root for root, problem in problems.items() if problem is None]
        self._reports.clear()
        self._completed.clear()
        found = scan(self._roots)
        models = [_refused(name, reason, roots) for name, reason in found.problems.items()]
        for done, folder in enumerate(found.models):
            on_model(folder.name, done, len(found.models))
            models.append(self.inspect_model(folder))
        return Inspection(
            engine=self._engine(),
            repositories=tuple(_repository(root, problem) for root, problem in problems.items()),
            models=tuple(sorted(models, key=lambda model: model.name)),
        )

    def inspect_model(self, folder: ModelFolder) -> ModelReport:
        """Look at one model and each version that its policy selects; at each once in an inspection."""
        known = self._reports.get(folder.name)
        if known is None:
            self._at_work.append(folder.name)
            known = self._reports[folder.name] = self._inspect_model(folder)
            self._at_work.pop()
        return known

    def _inspect_model(self, folder: ModelFolder) -> ModelReport:
        facts = Facts(folder, self._auto_complete, variant=self._config_name)
        report = partial(
            ModelReport,
            name=folder.name,
            path=str(folder.path),
            versions_found=folder.versions,
            notes=folder.notes,
        )
        try:
            config = self._read_config(facts)
            facts.stage = Stage.VERSIONS
            selection = select_versions(config.version_policy, folder.versions, model_name=folder.name)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other models must be looked at
            warnings = facts.config.warnings if facts.config else ()
            return report(problem=explain(error, facts), config_file=_config_file(facts), warnings=warnings)
        experiment = inspect_experiment(facts, config, selection.selected)
        added = () if experiment is None else experiment.versions_added
        versions = sorted({*selection.selected, *added})
        return report(
            config_file=_config_file(facts),
            version_policy=_policy_text(config.version_policy),
            versions_missing=selection.missing,
            versions=tuple(self._inspect_version(folder, version, config) for version in versions),
            warnings=config.warnings,
            experiment=experiment,
        )

    def _read_config(self, facts: Facts) -> ModelConfig:
        _check_plain_file(facts.config_path)
        facts.config = parse_model_config(
            facts.folder.path, auto_complete=self._auto_complete, variant=self._config_name
        )
        check_loadable(facts.config)
        return facts.config

    def _inspect_version(self, folder: ModelFolder, version: int, config: ModelConfig) -> VersionReport:
        facts = Facts(folder, self._auto_complete, config=config, version=version, variant=self._config_name)
        plan: VersionPlan | None = None
        problem: Problem | None = None
        try:
            plan = self._plan(facts, config, version)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other versions must be looked at
            problem = explain(error, facts)
        return VersionReport(
            version=version,
            file=str(facts.file) if facts.file else None,
            plan=plan,
            problem=problem,
            graph_inputs=facts.inputs,
            graph_outputs=facts.outputs,
        )

    def _plan(self, facts: Facts, config: ModelConfig, version: int) -> VersionPlan:
        """Go the way of loading, noting in `facts` how far it came; raises NaiadError where it ends."""
        if config.ensemble is not None:
            return self._plan_ensemble(facts, config, version)
        facts.stage = Stage.INSTANCES
        check_gpus(config, self._environment.gpu_count)
        facts.stage = Stage.FILE
        facts.file = model_file(facts.folder, version, config)
        facts.stage = Stage.INSTANCES
        providers = plan_providers(
            config, available=self._environment.available, gpu_count=self._environment.gpu_count
        )
        plan_instances(config, providers, self._budget)
        read_cuda_settings(config)
        facts.stage = Stage.GRAPH
        inspected = inspect_version(
            facts.file,
            config,
            environment=self._environment,
            budget=self._budget,
            complete=partial(self._complete, facts),
            measures=self._measures,
        )
        self._check_beside_the_graph(facts, inspected.config)
        self._completed.setdefault(config.name, {})[version] = inspected.config
        plan = plan_version(config, inspected, optional=facts.optional)
        return replace(plan, proposals=propose(inspected.config, facts.file))

    @staticmethod
    def _check_beside_the_graph(facts: Facts, completed: ModelConfig) -> None:
        """What loading reads after the graph, in its order."""
        facts.stage = Stage.LABELS
        class_labels(facts.folder, completed)
        facts.stage = Stage.VISION
        vision_model(completed)

    def _plan_ensemble(self, facts: Facts, config: ModelConfig, version: int) -> VersionPlan:
        assert config.ensemble is not None
        facts.stage = Stage.ENSEMBLE
        models = {name: self._inspect_step(config.name, name, facts) for name in config.ensemble.model_names}
        check_steps(config, models, self._completed)
        completed = complete_ensemble_config(config)
        self._check_beside_the_graph(facts, completed)
        self._completed.setdefault(config.name, {})[version] = completed
        return plan_ensemble(completed)

    def _inspect_step(self, ensemble: str, name: str, facts: Facts) -> ModelReport | None:
        """A composing model, or None if no repository has it; raises InvalidArgumentError in a circle."""
        if name in self._at_work:
            raise InvalidArgumentError(
                f"circular dependency between ensembles: {name} -> ... -> {ensemble} -> {name}"
            )
        try:
            return self.inspect_model(find_folder(self._roots or [facts.folder.path.parent], name))
        except NaiadError:
            return None

    def _complete(
        self,
        facts: Facts,
        config: ModelConfig,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        optional_inputs: Collection[str],
    ) -> ModelConfig:
        facts.stage = Stage.FIT
        facts.inputs, facts.outputs = tuple(inputs), tuple(outputs)
        facts.optional = frozenset(optional_inputs)
        return complete_model_config(
            config,
            inputs,
            outputs,
            optional_inputs=optional_inputs,
            default_max_batch_size=self._default_max_batch_size,
            auto_complete=self._auto_complete,
        )

    def _engine(self) -> EngineReport:
        return EngineReport(
            onnxruntime=self._environment.version,
            execution_providers=self._environment.available,
            gpu_count=self._environment.gpu_count,
            cpu_threads=self._budget.threads,
            cpu_threads_reason=self._budget.reason,
            auto_complete=self._auto_complete,
            default_max_batch_size=self._default_max_batch_size,
            warnings=self._environment.warnings,
        )


def _check_plain_file(path: Path) -> None:
    """Refuse pipes and devices, which a read would wait for without end. What is not there is fine here."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # the reader says what is wrong, or takes the file as absent
    if not stat.S_ISREG(mode):
        raise InvalidArgumentError(f"cannot read model config {path}: it is not a file")


def _config_file(facts: Facts) -> str | None:
    path = facts.config_path
    return str(path) if os.path.lexists(path) else None


def _policy_text(policy: VersionPolicy) -> str:
    if policy.kind is VersionPolicyKind.LATEST:
        return f"latest {policy.num_versions}"
    if policy.kind is VersionPolicyKind.SPECIFIC:
        return f"specific {', '.join(map(str, sorted(policy.versions)))}"
    return "all"


def _root_problem(root: Path) -> Problem | None:
    advice = "name a folder that exists and that this user may list"
    try:
        scan([root])
    except NaiadError as error:
        return Problem(Stage.REPOSITORY, error.message, advice)
    except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
        return Problem(Stage.REPOSITORY, f"cannot list model repository {root}: {error}", advice)
    return None


def _repository(root: Path, problem: Problem | None) -> RepositoryReport:
    if problem is not None:
        return RepositoryReport(str(root), 0, problem)
    entries = sorted(root.iterdir())
    names, folders = [entry.name for entry in entries], [entry.name for entry in entries if _is_folder(entry)]
    return RepositoryReport(str(root), len(folders), notes=tuple(_repository_notes(root, names, folders)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # a link into what we may not see


def _repository_notes(root: Path, names: list[str], folders: list[str]) -> list[str]:
    """What looks like a mistake in how the folder was made or named."""
    if hint := level_hint(root):
        return [hint]
    files = [name for name in names if name.endswith(".onnx") and name not in folders]
    notes = [f"ignored file {name}: a model is a folder, {name[:-5]}/1/model.onnx" for name in files]
    return notes if folders or notes else ["there is no model in it: a model is a folder, NAME/1/model.onnx"]


def _refused(name: str, reason: str, roots: Sequence[Path]) -> ModelReport:
    """A folder that the scan itself refused: it is there twice, cannot be listed, or has an unusable name."""
    paths = [str(root / name) for root in dict.fromkeys(roots) if os.path.lexists(root / name)]
    if len(paths) > 1:
        advice = f"rename or remove all but one of {', '.join(paths)}"
    elif paths:
        advice = f"let the server list {paths[0]}"
    else:
        advice = "rename the folder"
    return ModelReport(name, ", ".join(paths) or None, problem=Problem(Stage.REPOSITORY, reason, advice))
