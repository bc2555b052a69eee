"""What `naiad check` says of a model's experiment: who would answer whom, or what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.experiment_reader import EXPERIMENT_FILENAME, PARAMETER_SOURCE, read_experiment
from naiad.config.runtime_keys import EXPERIMENT
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.advice import explain
from naiad.lifecycle.experiments.assignment import Routes
from naiad.lifecycle.inspection import ExperimentPlan, ExperimentReport, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.experiment_config import ExperimentConfig
    from naiad.config.model_config import ModelConfig
    from naiad.lifecycle.advice import Facts

_LONG_AGO = float("-inf")
_MAX_STEPS = 8
"""So many steps of a ramp are told."""


def inspect_experiment(facts: Facts, config: ModelConfig, selected: Sequence[int]) -> ExperimentReport | None:
    """Look at a model's experiment; None if it has none.

    Args:
        facts: of the model; its stage becomes `Stage.EXPERIMENT`.
        config: the model's.
        selected: the versions that the version policy selects.
    """
    facts.stage = Stage.EXPERIMENT
    path = facts.folder.path / EXPERIMENT_FILENAME
    is_file = path.exists() or path.is_symlink()
    source = str(path) if is_file else PARAMETER_SOURCE
    try:
        experiment = read_experiment(facts.folder.path, config.parameters.get(EXPERIMENT))
        if experiment is None:
            return None
        _check_versions(experiment, facts.folder.versions)
    except Exception as error:  # noqa: BLE001  # whatever it is, the versions must be looked at
        return ExperimentReport(source, problem=explain(error, facts))
    added = tuple(version for version in experiment.versions if version not in selected)
    return ExperimentReport(source, added, _plan(experiment))


def _check_versions(experiment: ExperimentConfig, there: Sequence[int]) -> None:
    missing = [str(version) for version in experiment.versions if version not in there]
    if missing:
        versions = f"version{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise InvalidArgumentError(
            f"experiment '{experiment.name}' names {versions}, of which there is no folder"
        )


def _plan(experiment: ExperimentConfig) -> ExperimentPlan:
    return ExperimentPlan(
        name=experiment.name,
        digest=experiment.digest,
        baseline=experiment.baseline,
        candidates=experiment.candidates,
        shares=_shares(experiment, _LONG_AGO),
        ramp_steps=len(experiment.ramp),
        keys=len(experiment.listed),
        shadow=experiment.shadow_version,
        is_guarded=experiment.guard is not None,
        explanation=tuple(_explain(experiment)),
    )


def _shares(experiment: ExperimentConfig, at_s: float) -> dict[int, float]:
    """The part that each version answers at a time, 0 to 1, were all of them ready."""
    routes = Routes(experiment, ready=experiment.answering, now=at_s)
    return {version: routes.share_of(version) for version in experiment.answering}


def _explain(experiment: ExperimentConfig) -> list[str]:
    lines = [f"'{experiment.name}', baseline {experiment.baseline}: {_shares_text(experiment, _LONG_AGO)}"]
    lines += [
        f"from {step.at.isoformat()}: {_shares_text(experiment, step.at_s)}"
        for step in experiment.ramp[:_MAX_STEPS]
    ]
    more = len(experiment.ramp) - _MAX_STEPS
    lines += [f"and {more} more steps of the ramp"] if more > 0 else []
    lines += [
        f"{len(keys)} listed key{'s' * (len(keys) != 1)} always get{'s' * (len(keys) == 1)} version {version}"
        for version, keys in experiment.keys.items()
    ]
    if experiment.shadow is not None:
        shadow = experiment.shadow
        lines.append(
            f"version {shadow.version} is sent copies of {shadow.share:.4g} of the baseline's requests, "
            f"with {shadow.budget:g} CPUs"
        )
    return [*lines, _guard_text(experiment)]


def _guard_text(experiment: ExperimentConfig) -> str:
    guard = experiment.guard
    if guard is None:
        return "no guard: nothing is decided, only reported"
    after = f", promotes after {guard.promote_after}" if guard.promote_after else ", never promotes"
    dry = "; dry run: decisions are recorded, not carried out" if guard.dry_run else ""
    return f"guard: decides from {guard.min_requests} requests of a candidate on{after}{dry}"


def _shares_text(experiment: ExperimentConfig, at_s: float) -> str:
    shares = _shares(experiment, at_s).items()
    return ", ".join(f"version {version} answers {100 * share:.4g} %" for version, share in shares)
