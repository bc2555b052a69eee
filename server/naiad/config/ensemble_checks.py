"""Whether an ensemble and its composing models fit together, in Triton's own words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.config.ensemble_config import MAX_STEPS
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from naiad.config.ensemble_config import EnsembleStep
    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.datatypes import DataType


MAX_NESTING = 32
"""Ensembles that may lie in each other."""


class Extent(NamedTuple):
    """How many ensembles lie in each other, and how many models a request runs through in all."""

    nesting: int
    steps: int


LEAF = Extent(0, 1)
"""A model that is no ensemble."""


def extent_over(models: Iterable[Extent]) -> Extent:
    """That of an ensemble, from those of its steps' models."""
    nesting = steps = 0
    for each in models:
        nesting = max(nesting, each.nesting)
        steps += each.steps
    return Extent(nesting + 1, steps)


def check_extent(name: str, extent: Extent) -> None:
    """Ensembles in ensembles multiply: a few small configs could make one request millions.

    Args:
        name: the ensemble's.
        extent: of the ensemble with all that lies in it.

    Raises:
        InvalidArgumentError: there is too much of it.
    """
    if extent.nesting > MAX_NESTING:
        raise InvalidArgumentError(
            f"ensemble '{name}' has ensembles nested {extent.nesting} deep, at most {MAX_NESTING} are served"
        )
    if extent.steps > MAX_STEPS:
        raise InvalidArgumentError(
            f"ensemble '{name}' has {extent.steps} steps, those of the ensembles in it included, at most "
            f"{MAX_STEPS} are served"
        )


class _Known(NamedTuple):
    """What is known of an ensemble's tensor, and from which model; `full` has the batch dimension."""

    model: str
    datatype: DataType
    dims: tuple[int, ...]
    full: tuple[int, ...]


def check_composition(config: ModelConfig, models: Sequence[ModelConfig]) -> None:
    """Check batch sizes, names, datatypes and shapes along the steps.

    Sizes that are free on one side are looked at again when a request has them.

    Args:
        config: the ensemble's, statically valid.
        models: the complete config of each step's model, in the order of the steps.

    Raises:
        InvalidArgumentError: the first thing that does not fit.
    """
    assert config.ensemble is not None
    tensors = {spec.name: _known(config, spec, _inner_dims(spec)) for spec in config.inputs}
    for spec in config.outputs:
        tensors.setdefault(spec.name, _known(config, spec, _inner_dims(spec)))
    for step, model in zip(config.ensemble.steps, models, strict=True):
        if 0 < model.max_batch_size < config.max_batch_size:
            raise InvalidArgumentError(
                f"ensemble {config.name} allows maximum batch size {config.max_batch_size}, but it contains "
                f"model {step.model_name} which only allows maximum batch size to be {model.max_batch_size}"
            )
        _check_inputs(config.name, step, model, tensors)
        _check_outputs(config.name, step, model, tensors)


def _known(model: ModelConfig, spec: TensorConfig, dims: tuple[int, ...]) -> _Known:
    batch = (WILDCARD,) if model.max_batch_size > 0 else ()
    return _Known(model.name, spec.datatype, dims, (*batch, *dims))


def _inner_dims(spec: TensorConfig) -> tuple[int, ...]:
    """The shape, batch dimension aside, that an ensemble's input or output has between the steps."""
    return spec.dims if spec.reshape is None else spec.reshape


def _check_inputs(ensemble: str, step: EnsembleStep, model: ModelConfig, tensors: dict[str, _Known]) -> None:
    _check_names(
        f"in ensemble {ensemble}, ensemble tensor {{}} is mapping to non-existing input {{}} in model {{}}",
        step.inputs.items(),
        {spec.name for spec in model.inputs},
        step,
    )
    for spec in model.inputs:
        name = step.inputs.get(spec.name)
        if name is not None:
            _check_consistent(ensemble, name, _known(model, spec, spec.dims), tensors)
        elif not spec.optional:
            raise InvalidArgumentError(
                f"in ensemble {ensemble}, input {spec.name} in model {step.model_name} is not mapped to any "
                "ensemble tensors"
            )


def _check_outputs(ensemble: str, step: EnsembleStep, model: ModelConfig, tensors: dict[str, _Known]) -> None:
    _check_names(
        f"in ensemble {ensemble}, ensemble tensor {{}} is mapped from non-existing output {{}} in model {{}}",
        step.outputs.items(),
        {spec.name for spec in model.outputs},
        step,
    )
    for spec in model.outputs:
        if spec.name in step.outputs:
            _check_consistent(ensemble, step.outputs[spec.name], _known(model, spec, spec.dims), tensors)


def _check_names(
    template: str, mapped: Collection[tuple[str, str]], known: Collection[str], step: EnsembleStep
) -> None:
    for ours, theirs in mapped:
        if ours not in known:
            raise InvalidArgumentError(template.format(theirs, ours, step.model_name))


def _check_consistent(ensemble: str, name: str, found: _Known, tensors: dict[str, _Known]) -> None:
    """Compare with what is known of the tensor, or remember it.

    The dims count, or the full shapes: a batch may be the first dimension of a model without batches.
    """
    known = tensors.setdefault(name, found)
    prefix = f"in ensemble {ensemble}, ensemble tensor {name}: "
    if known.datatype is not found.datatype:
        raise InvalidArgumentError(
            f"{prefix}inconsistent data type: {known.datatype.config_name} is inferred from model "
            f"{known.model} while {found.datatype.config_name} is inferred from model {found.model}"
        )
    if not (fits(known.dims, found.dims) or fits(known.full, found.full)):
        raise InvalidArgumentError(
            f"{prefix}inconsistent shape: {_text(known.full)} is inferred from model {known.model} while "
            f"{_text(found.full)} is inferred from model {found.model}"
        )


def fits(left: Sequence[int], right: Sequence[int]) -> bool:
    """Whether two shapes are the same where neither leaves a size free."""
    return len(left) == len(right) and all(
        one == other or WILDCARD in (one, other) for one, other in zip(left, right, strict=True)
    )


def _text(dims: Sequence[int]) -> str:
    return f"[{','.join(map(str, dims))}]"
