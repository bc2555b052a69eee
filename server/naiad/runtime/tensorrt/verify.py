"""Does an engine answer as CUDA does? What both are given, and how near their answers must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.core.datatypes import DataType, zeros
from naiad.core.errors import InternalError
from naiad.core.tensors import WILDCARD
from naiad.runtime.shapes import graph_dims
from naiad.runtime.tensorrt.options import Precision

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import numpy.typing as npt

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array
    from naiad.runtime.tensorrt.plan import EnginePlan

TOLERANCES = {
    # CUDA and TensorRT both multiply FP32 with the ten bits of TF32.
    Precision.FP32: 0.01,
    Precision.FP16: 0.02,
    Precision.BF16: 0.08,
    Precision.INT8: 0.25,
}
"""How large the difference of an output may be, in the mean (root of the squares), of the output itself."""

WORST = 10
"""How many times that the one worst value may be off, of the largest value."""

_SEED = 0


class Difference(NamedTuple):
    """How far an output is off: in the mean, and at its worst, each of the expected output's own size."""

    mean: float
    worst: float


def make_feeds(config: ModelConfig, plan: EnginePlan) -> Iterator[dict[str, Array]]:
    """Inputs of every batch size in rising order, and of the smallest and largest declared shapes.

    Images and other floats are random and the same each time; whole numbers, which may be indices, are zeros.
    """
    for size in plan.batch_sizes:
        yield _feeds(config, plan, size, which=1)
    if plan.declared:
        yield _feeds(config, plan, plan.batch_sizes[0], which=0)
        yield _feeds(config, plan, plan.batch_sizes[0], which=2)


def check_answers(
    given: Mapping[str, Array],
    expected: Mapping[str, Array],
    precision: Precision,
    bf16: Collection[str] = (),
) -> None:
    """Hold an engine's outputs to CUDA's; those in `bf16` are the bits of BF16.

    Raises:
        InternalError: they are too far apart; names the output and by how much.
    """
    for name, theirs in expected.items():
        ours = given[name]
        if name in bf16:
            ours, theirs = _from_bits(ours), _from_bits(theirs)  # noqa: PLW2901  # the same, to be read
        if fault := _fault(ours, theirs, precision):
            raise InternalError(f"its output '{name}' {fault}")


def describe(feeds: Mapping[str, Array]) -> str:
    """The inputs' names and shapes."""
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())


def _fault(given: Array, expected: Array, precision: Precision) -> str | None:
    if given.shape != expected.shape:
        return f"has shape {list(given.shape)} in place of CUDA's {list(expected.shape)}"
    allowed = TOLERANCES[precision]
    found = difference(given, expected)
    if found.mean <= allowed and found.worst <= WORST * allowed:
        return None
    return (
        f"is off CUDA's by {found.mean:.2g} in the mean and {found.worst:.2g} at worst, "
        f"{allowed:g} and {WORST * allowed:g} are allowed in {precision.value}"
    )


def difference(given: Array, expected: Array) -> Difference:
    """How far `given` is off, both of one shape; of whole numbers the share that differs.

    Values that are not finite must be the same: else the difference is infinite.
    """
    if expected.dtype.kind not in "fc":
        share = float(np.mean(given != expected)) if expected.size else 0.0
        return Difference(share, share)
    ours, theirs = _wide(given), _wide(expected)
    finite = np.isfinite(theirs)
    if (
        not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True)
        or not np.isfinite(ours[finite]).all()
    ):
        return Difference(np.inf, np.inf)
    off, size = ours[finite] - theirs[finite], theirs[finite]
    if not off.size:
        return Difference(0.0, 0.0)
    return Difference(_ratio(_mean(off), _mean(size)), _ratio(np.abs(off).max(), np.abs(size).max()))


def _from_bits(array: Array) -> Array:
    """BF16, which travels as the upper halves of floats, as those floats."""
    return (array.astype(np.uint32) << 16).view(np.float32)


def _wide(array: Array) -> npt.NDArray[np.float64]:
    return array.astype(np.float64).ravel()


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _ratio(off: float, size: float) -> float:
    # Where nothing is expected, what comes is measured by itself.
    return float(off / size) if size else float(off)


def _feeds(config: ModelConfig, plan: EnginePlan, batch_size: int, *, which: int) -> dict[str, Array]:
    source = np.random.default_rng(_SEED)
    return {
        tensor.name: _values(tensor, _shape(config, plan, tensor, batch_size, which), source)
        for tensor in config.inputs
    }


def _shape(
    config: ModelConfig, plan: EnginePlan, tensor: TensorConfig, batch_size: int, which: int
) -> tuple[int, ...]:
    declared = plan.declared.get(tensor.name)
    dims = declared[which] if declared is not None else graph_dims(tensor)
    # Only where the config has profiles of its own is anything left open.
    filled = tuple(1 if dim == WILDCARD else dim for dim in dims)
    return (batch_size, *filled) if config.max_batch_size > 0 else filled


def _values(tensor: TensorConfig, shape: tuple[int, ...], source: np.random.Generator) -> Array:
    kind = tensor.datatype.numpy
    if tensor.datatype is DataType.BF16:  # a float's upper half
        return (source.random(shape, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if kind.kind == "f":
        return source.random(shape, dtype=np.float32).astype(kind)
    if tensor.datatype is DataType.UINT8:
        return source.integers(0, 256, shape, dtype=np.uint8)
    return zeros(tensor.datatype, shape)
