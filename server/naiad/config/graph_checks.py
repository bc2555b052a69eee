"""Does the config describe the graph that was loaded? Triton's checks at load, in its own words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.control_checks import check_controls
from naiad.config.ragged_checks import check_batch_io, check_ragged_input
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import TensorSpec


def check_graph(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    optional_inputs: Collection[str] = (),
) -> None:
    """Compare the config's inputs and outputs, control tensors and states included, with the graph's.

    Args:
        config: complete.
        inputs: the graph's inputs, full shapes; those named in `optional_inputs` may be among them.
        outputs: the graph's outputs, full shapes.
        optional_inputs: overridable initializers of the graph.

    Raises:
        InvalidArgumentError: Triton's message for the first difference, inputs first.
    """
    required = {spec.name for spec in inputs} - set(optional_inputs)
    sequences = config.sequence_batching
    if sequences is not None:
        check_controls(config, sequences.controls, inputs)
    expected = sum(1 for tensor in config.inputs if not tensor.optional)
    expected += len(sequences.inputs) if sequences else 0
    expected += sum(len(each.target_names) for each in config.batch_inputs)
    if expected != len(required):
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', configuration expects {expected} inputs, "
            f"model provides {len(required)}"
        )
    known = {spec.name: spec for spec in inputs}
    for tensor in (*config.inputs, *(sequences.inputs if sequences else ())):
        _check_optional(config, tensor)
        _check_name(tensor, required | set(optional_inputs), "input")
        spec = known.get(tensor.name)  # None: an initializer whose shape the engine did not tell
        if spec is not None:
            _check_tensor(config, tensor, spec, "input")
    check_batch_io(config, known)
    available = {spec.name: spec for spec in outputs}
    for tensor in config.outputs:
        _check_name(tensor, available, "output")
        _check_tensor(config, tensor, available[tensor.name], "output")
    for tensor in sequences.outputs if sequences else ():
        _check_name(tensor, available, "output")
        _check_tensor(config, tensor, available[tensor.name], "output state")


def _check_optional(config: ModelConfig, tensor: TensorConfig) -> None:
    if tensor.optional and config.max_batch_size > 0:
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', optional input '{tensor.name}' is not supported for "
            "models that support batching"
        )


def _check_name(tensor: TensorConfig, allowed: Collection[str] | Mapping[str, TensorSpec], what: str) -> None:
    if tensor.name not in allowed:
        raise InvalidArgumentError(
            f"unexpected inference {what} '{tensor.name}', allowed {what}s are: {', '.join(sorted(allowed))}"
        )


def _check_tensor(config: ModelConfig, tensor: TensorConfig, spec: TensorSpec, what: str) -> None:
    if tensor.datatype is not spec.datatype:
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', configuration expects datatype "
            f"{tensor.datatype.config_name} for {what} '{tensor.name}', model provides "
            f"TYPE_{spec.datatype.value}"
        )
    if tensor.ragged:
        check_ragged_input(config, tensor, spec)
        return
    if what == "output" and any(tensor.name in each.target_names for each in config.batch_outputs):
        return  # the requests' shapes cut it, not its own
    dims = tensor.dims if tensor.reshape is None else tensor.reshape
    if spec.shape == () and config.max_batch_size == 0:
        _check_scalar(config, tensor, dims)
    elif spec.shape is not None:
        _check_dims(config, tensor, dims, spec.shape, exact=what == "output")


def _check_scalar(config: ModelConfig, tensor: TensorConfig, dims: tuple[int, ...]) -> None:
    if any(dim != 1 for dim in dims):
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', scalar tensor '{tensor.name}', should only provide 1 in "
            "the model configuration when the model doesn't support batching. Model configuration provided: "
            f"{_bracketed(dims)}."
        )


def _check_dims(
    config: ModelConfig, tensor: TensorConfig, dims: tuple[int, ...], shape: tuple[int, ...], *, exact: bool
) -> None:
    """Inputs may be narrower than the graph's -1; outputs must be equal."""
    prefix = f"model '{config.name}', tensor '{tensor.name}': "
    batched = config.max_batch_size > 0
    if batched and shape[:1] != (WILDCARD,):
        raise InvalidArgumentError(
            f"{prefix}for the model to support batching the shape should have at least 1 dimension and the "
            f"first dimension must be -1; but shape expected by the model is {_bracketed(shape)}"
        )
    full = (WILDCARD, *dims) if batched else dims
    fits = len(full) == len(shape) and all(
        theirs == ours or (theirs == WILDCARD and not exact) for ours, theirs in zip(full, shape, strict=True)
    )
    if not fits:
        explained = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
            f"making complete shape {_bracketed(full)}"
            if batched
            else f"shape {_bracketed(full)}"
        )
        raise InvalidArgumentError(
            f"{prefix}the model expects {len(shape)} dimensions (shape {_bracketed(shape)}) but the model "
            f"configuration specifies {len(full)} dimensions ({explained})"
        )


def _bracketed(dims: tuple[int, ...]) -> str:
    return f"[{','.join(str(dim) for dim in dims)}]"
