"""Whether a model can be an engine, and for which shapes, so that no request ever builds one. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naiad.config.runtime_keys import TENSORRT_BUILD, TENSORRT_SHAPES
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.core.tensors import WILDCARD
from naiad.runtime.buckets import batch_buckets
from naiad.runtime.shapes import graph_dims
from naiad.runtime.tensorrt.options import PROFILES, Precision, read_precision
from naiad.runtime.tensorrt.shapes import ShapeRange, read_declared_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import TensorSpec

_MODES = ("background", "blocking")


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What an engine is built for.

    `options` are the provider's, profiles included, without device and caches. `batch_sizes` are those to
    warm and compare. `declared` are the ranges that requests must keep to, without the batch dimension.
    `blocking` says that the version is not ready before its engine is.
    """

    options: Mapping[str, str]
    batch_sizes: tuple[int, ...]
    declared: Mapping[str, ShapeRange] = field(default_factory=dict)
    precision: Precision = Precision.FP32
    blocking: bool = False


def read_build_mode(config: ModelConfig) -> bool:
    """Whether `naiad.tensorrt_build` is blocking; background by default.

    Raises:
        InvalidArgumentError: it is neither.
    """
    value = config.parameters.get(TENSORRT_BUILD, _MODES[0])
    if value not in _MODES:
        raise InvalidArgumentError(
            f"parameter '{TENSORRT_BUILD}' is '{value}', expected {' or '.join(_MODES)}"
        )
    return value == "blocking"


def plan_engine(config: ModelConfig, inputs: Sequence[TensorSpec], options: Mapping[str, str]) -> EnginePlan:
    """Decide the shapes of a model's engine.

    The batch dimension goes from 1 to the largest bucket and is tuned for the largest batch that the config
    prefers. Fixed dimensions are the graph's or the config's, others those of `naiad.tensorrt_shapes`.

    Args:
        config: complete.
        inputs: the graph's.
        options: the provider's, from `tensorrt_options`.

    Raises:
        UnsupportedError: why this model is left to CUDA.
        InvalidArgumentError: a parameter is wrong; names the key.
    """
    blocking, declared = read_build_mode(config), read_declared_shapes(config)
    _check_suitable(config)
    own = [key for key in PROFILES if key in options]
    if own and len(own) < len(PROFILES):
        missing = ", ".join(key for key in PROFILES if key not in options)
        raise InvalidArgumentError(f"{own[0]} is set without {missing}: set all three or none")
    ranges = {} if own else dict(_profiles(config, inputs, declared))
    return EnginePlan(
        options={**options, **_profile_options(ranges)},
        batch_sizes=batch_sizes(config),
        declared=declared,
        precision=read_precision(options),
        blocking=blocking,
    )


def batch_sizes(config: ModelConfig) -> tuple[int, ...]:
    """The batch sizes to warm: the buckets; `(1,)` for a model without batches."""
    return batch_buckets(config, on_gpu=True).sizes or (1,)


def _check_suitable(config: ModelConfig) -> None:
    if config.sequence_batching is not None:
        raise UnsupportedError("the states and control tensors of a sequence model are left to CUDA")
    if config.batch_inputs or config.batch_outputs or any(tensor.ragged for tensor in config.inputs):
        raise UnsupportedError(
            "ragged inputs have another length in each batch, which no engine is built for"
        )
    for tensor in (*config.inputs, *config.outputs):
        if tensor.datatype is DataType.BYTES:
            raise UnsupportedError(f"TensorRT has no text, which '{tensor.name}' is (TYPE_STRING)")
    for tensor in config.inputs:
        if tensor.optional:
            raise UnsupportedError(f"TensorRT has no optional inputs, which '{tensor.name}' is")


def _profiles(
    config: ModelConfig, inputs: Sequence[TensorSpec], declared: Mapping[str, ShapeRange]
) -> Iterator[tuple[str, ShapeRange]]:
    """The range of each input that has a dynamic dimension; one that has none needs no profile."""
    tensors = {tensor.name: tensor for tensor in config.inputs}
    unknown: list[str] = []
    for spec in inputs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            raise UnsupportedError(f"its input '{spec.name}' is not in the config")
        if spec.shape is None:
            raise UnsupportedError(f"the file does not say how many dimensions input '{spec.name}' has")
        found = _range(config, spec.shape, tensor, declared.get(spec.name))
        if found is None:
            unknown.append(f"{spec.name}:{_hint(graph_dims(tensor))}")
        elif WILDCARD in spec.shape:
            yield spec.name, found
    if unknown:
        raise UnsupportedError(
            "dimensions of any size need a range: declare "
            f'parameters {{ key: "{TENSORRT_SHAPES}" value {{ string_value: "{",".join(unknown)}" }} }} '
            "with the smallest, the usual and the largest shape in place of ?"
        )


def _range(
    config: ModelConfig, shape: tuple[int, ...], tensor: TensorConfig, declared: ShapeRange | None
) -> ShapeRange | None:
    batch = ((), (), ()) if config.max_batch_size < 1 else _batch_range(config, shape[0])
    dims = graph_dims(tensor)
    rest = shape[len(batch[0]) :]
    if len(rest) != len(dims):
        raise UnsupportedError(f"input '{tensor.name}' has dims {list(dims)} and the graph {list(shape)}")
    fixed = tuple(ours if theirs == WILDCARD else theirs for ours, theirs in zip(dims, rest, strict=True))
    if declared is None and WILDCARD in fixed:
        return None
    ranges = declared or (fixed, fixed, fixed)
    return ShapeRange(*((*head, *tail) for head, tail in zip(batch, ranges, strict=True)))


def _batch_range(config: ModelConfig, graph_batch: int) -> tuple[tuple[int], tuple[int], tuple[int]]:
    if graph_batch != WILDCARD:
        return (graph_batch,), (graph_batch,), (graph_batch,)
    sizes = batch_sizes(config)
    batching = config.dynamic_batching
    preferred = batching.preferred_batch_sizes if batching is not None else ()
    return (1,), (max(preferred, default=sizes[-1]),), (sizes[-1],)


def _hint(dims: tuple[int, ...]) -> str:
    shape = "x".join("?" if dim == WILDCARD else str(dim) for dim in dims)
    return f"{shape}/{shape}/{shape}"


def _profile_options(ranges: Mapping[str, ShapeRange]) -> dict[str, str]:
    if not ranges:
        return {}
    return {
        option: ",".join(f"{name}:{'x'.join(map(str, each[index]))}" for name, each in ranges.items())
        for index, option in enumerate(PROFILES)
    }
