"""What `naiad check` says of an ensemble: its steps, and whether its models would go with it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.ensemble_checks import LEAF, check_composition, check_extent, extent_over
from naiad.config.ensemble_config import LATEST_VERSION
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD
from naiad.lifecycle.inspection import (
    BatchingReport,
    InstancesReport,
    Merging,
    TensorReport,
    VersionPlan,
)
from naiad.scheduling.ensemble.plan import stages
from naiad.scheduling.explain import explain_scheduling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from naiad.config.ensemble_checks import Extent
    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.lifecycle.inspection import ModelReport


def check_steps(
    config: ModelConfig,
    models: Mapping[str, ModelReport | None],
    completed: Mapping[str, Mapping[int, ModelConfig]],
) -> None:
    """Check an ensemble against its models as they would be loaded.

    Args:
        config: the ensemble's.
        models: what was found out about each composing model; None if it is in no repository.
        completed: the complete configs of the versions of each, where they would be loaded.

    Raises:
        InvalidArgumentError: they do not go together, in the words of the server.
    """
    assert config.ensemble is not None
    missing = [name for name, report in sorted(models.items()) if report is None]
    if missing:
        raise InvalidArgumentError(
            f"ensemble {config.name} contains models that are not available or ambiguous: "
            f"{', '.join(missing)}"
        )
    chosen = []
    for step in config.ensemble.steps:
        depends = f"ensemble '{config.name}' depends on '{step.model_name}'"
        report, versions = models[step.model_name], completed.get(step.model_name, {})
        assert report is not None
        if not (versions and report.ok):
            raise InvalidArgumentError(
                f"{depends} which has no loaded version. Model '{step.model_name}' loading failed with "
                f"error: {_reason(report)}"
            )
        number = max(versions) if step.model_version == LATEST_VERSION else step.model_version
        if number not in versions:
            raise InvalidArgumentError(f"{depends} whose required version {number} is not loaded.")
        chosen.append(versions[number])
    check_extent(config.name, _extent(config, completed))
    check_composition(config, chosen)


def _extent(config: ModelConfig, completed: Mapping[str, Mapping[int, ModelConfig]]) -> Extent:
    """That of a model whose own models were checked before, so that this ends soon."""
    if config.ensemble is None:
        return LEAF
    known = {}
    for name, number in {(step.model_name, step.model_version) for step in config.ensemble.steps}:
        versions = completed[name]
        version = max(versions) if number == LATEST_VERSION else number
        known[name, number] = _extent(versions[version], completed)
    return extent_over(known[step.model_name, step.model_version] for step in config.ensemble.steps)


def plan_ensemble(config: ModelConfig) -> VersionPlan:
    """What a version of an ensemble would be; its config is complete."""
    assert config.ensemble is not None
    return VersionPlan(
        inputs=tuple(_tensors(config, config.inputs)),
        outputs=tuple(_tensors(config, config.outputs)),
        completed=(),
        unserved_outputs=(),
        batching=BatchingReport(
            merging=Merging.ENSEMBLE,
            max_batch_size=config.max_batch_size,
            preferred_batch_sizes=(),
            max_queue_delay_us=0,
            max_queue_size=0,
            fixed_tensors=(),
            explanation=_explanation(config),
        ),
        instances=InstancesReport(groups=(), count=0, intra_op_threads=0, inter_op_threads=0),
        execution_providers=(),
        fallbacks=(),
        vision=config.vision,
        warnings=(),
        notes=(),
        scheduling=explain_scheduling(config),
    )


def _reason(report: ModelReport) -> str:
    problems = [report.problem, *(version.problem for version in report.versions)]
    return next((problem.reason for problem in problems if problem is not None), "it is part of a circle")


def _tensors(config: ModelConfig, tensors: Iterable[TensorConfig]) -> Iterable[TensorReport]:
    batch = (WILDCARD,) if config.max_batch_size > 0 else ()
    for tensor in tensors:
        shape = (*batch, *tensor.dims)
        yield TensorReport(tensor.name, tensor.datatype.value, shape, None, optional=tensor.optional)


def _explanation(config: ModelConfig) -> str:
    assert config.ensemble is not None
    steps = config.ensemble.steps
    order = ", then ".join(
        " and ".join(_step(steps[index].model_name, steps[index].model_version) for index in stage)
        for stage in stages(config.ensemble)
    )
    limit = config.ensemble.max_inflight_requests
    bound = f"; at most {limit} requests are at work in a step" if limit else ""
    return f"a request runs through {order}; each step is batched as its model says{bound}"


def _step(name: str, version: int) -> str:
    return f"'{name}'" if version == LATEST_VERSION else f"'{name}' version {version}"
