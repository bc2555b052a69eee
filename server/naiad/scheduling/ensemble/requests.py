"""The request for one step, checked as if its caller had sent it to the model itself. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array, InferRequest

_BATCH_NOTE = (
    " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape."
)


def step_request(
    request: InferRequest, config: ModelConfig, inputs: Mapping[str, Array], outputs: tuple[str, ...]
) -> InferRequest:
    """What a step's model is asked: id, sequence, priority, timeout and parameters are the ensemble's.

    Datatypes were compared when the ensemble was loaded; what was free in a shape is looked at now.

    Args:
        request: the ensemble's.
        config: of the step's model.
        inputs: of that model; optional ones may be left out.
        outputs: of that model.

    Raises:
        InvalidArgumentError: an input is missing, or a shape or the batch's size does not suit the model; in
            Triton's words.
    """
    prefix = f"[request id: {request.request_id or '<id_unknown>'}] "
    specs = {spec.name: spec for spec in config.inputs}
    required = [spec.name for spec in config.inputs if not spec.optional]
    missing = [name for name in required if name not in inputs]
    if missing:
        raise _wrong_count(prefix, config, required, inputs, missing)
    batch_size = 1
    if config.max_batch_size > 0:
        batch_size = _batch_size(prefix, config, inputs) if inputs else request.batch_size
    for name, array in inputs.items():
        _check_shape(prefix, config, specs[name], array.shape)
    if batch_size < 1:
        raise InvalidArgumentError(
            f"{prefix}inference request batch-size must be >= 1 for '{config.name}', got {batch_size}"
        )
    return replace(
        request,
        model_name=config.name,
        version=None,
        inputs=dict(inputs),
        outputs=outputs,
        batch_size=batch_size,
    )


def _wrong_count(
    prefix: str,
    config: ModelConfig,
    required: Collection[str],
    sent: Collection[str],
    missing: Iterable[str],
) -> InvalidArgumentError:
    total = len(config.inputs)
    if len(required) < total:
        wanted = f"number of inputs between {len(required)} and {total}"
    else:
        wanted = f"{total} inputs"
    return InvalidArgumentError(
        f"{prefix}expected {wanted} but got {len(sent)} inputs for model '{config.name}'. "
        f"Got input(s) [{_quoted(sent)}], but missing required input(s) [{_quoted(missing)}]. "
        "Please provide all required input(s)."
    )


def _batch_size(prefix: str, config: ModelConfig, inputs: Mapping[str, Array]) -> int:
    sizes: list[int] = []
    for name, array in inputs.items():
        if not array.ndim:
            raise InvalidArgumentError(
                f"{prefix}input '{name}' has no shape but model requires batch dimension for '{config.name}'"
            )
        sizes.append(array.shape[0])
        if sizes[0] != sizes[-1]:
            raise InvalidArgumentError(
                f"{prefix}input '{name}' batch size does not match other inputs for '{config.name}'"
            )
    if sizes[0] > config.max_batch_size:
        raise InvalidArgumentError(
            f"{prefix}inference request batch-size must be <= {config.max_batch_size} for '{config.name}'"
        )
    return sizes[0]


def _check_shape(prefix: str, config: ModelConfig, spec: TensorConfig, shape: tuple[int, ...]) -> None:
    batched = config.max_batch_size > 0
    dims = shape[1:] if batched else shape
    if len(dims) == len(spec.dims) and all(
        wanted in (WILDCARD, size) for size, wanted in zip(dims, spec.dims, strict=True)
    ):
        return
    wanted = (WILDCARD, *spec.dims) if batched else spec.dims
    raise InvalidArgumentError(
        f"{prefix}unexpected shape for input '{spec.name}' for model '{config.name}'. "
        f"Expected {_dims(wanted)}, got {_dims(shape)}.{_BATCH_NOTE if batched else ''}"
    )


def _dims(dims: Sequence[int]) -> str:
    return f"[{','.join(map(str, dims))}]"


def _quoted(names: Iterable[str]) -> str:
    return ",".join(f"'{name}'" for name in sorted(names))
