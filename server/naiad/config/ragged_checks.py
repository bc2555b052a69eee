"""Does the graph take ragged batches as the config has them? Triton's checks at load, and ours. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.ragged_config import BatchInputKind
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.config.ragged_config import BatchInput
    from naiad.core.tensors import TensorSpec


def check_ragged_input(config: ModelConfig, tensor: TensorConfig, spec: TensorSpec) -> None:
    """A ragged input is one-dimensional and of any size in the graph, whatever dims the config gives it.

    Raises:
        InvalidArgumentError: Triton's message: it is not, or the input is optional.
    """
    prefix = (
        f"unable to load model '{config.name}', configuration expects model provides input with shape [-1] "
    )
    if tensor.optional:
        raise InvalidArgumentError(
            f"{prefix}for ragged input '{tensor.name}', which is not supported for optional input"
        )
    if spec.shape not in (None, (WILDCARD,)):
        # The two blanks are Triton's.
        raise InvalidArgumentError(
            f"{prefix} for ragged input '{tensor.name}', model provides {_bracketed(spec.shape)}"
        )


def check_batch_io(config: ModelConfig, inputs: Mapping[str, TensorSpec]) -> None:
    """Compare the batch inputs with the graph's, and the dims of batch outputs with those of their sources.

    Triton would find these out only when a request comes.

    Args:
        config: complete.
        inputs: the graph's inputs by name.

    Raises:
        InvalidArgumentError: the first difference.
    """
    outputs = {tensor.name: tensor for tensor in config.outputs}
    for batch_input in config.batch_inputs:
        _source(config, batch_input.source)
        for name in batch_input.target_names:
            _check_target(config, batch_input, name, inputs)
    for batch_output in config.batch_outputs:
        source = _source(config, batch_output.source)
        for name in batch_output.target_names:
            if name not in outputs:
                raise InvalidArgumentError(f"unknown target output name '{name}' for {config.name}")
            _check_dims(config, outputs[name], source)


def _source(config: ModelConfig, name: str) -> TensorConfig:
    source = next((tensor for tensor in config.inputs if tensor.name == name), None)
    if source is None:
        raise InvalidArgumentError(f"unknown source input name '{name}' for {config.name}")
    if source.optional:
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', source input '{name}' of a batch input or output "
            "must not be optional"
        )
    return source


def _check_dims(config: ModelConfig, output: TensorConfig, source: TensorConfig) -> None:
    ours, theirs = _graph_dims(output), _graph_dims(source)
    if WILDCARD in ours[len(theirs) :]:
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', batch output '{output.name}' has dims "
            f"{_bracketed(ours)}: a variable-size dimension takes its size from the same dimension of "
            f"'{source.name}', which has dims {_bracketed(theirs)}"
        )


def _check_target(
    config: ModelConfig, batch_input: BatchInput, name: str, inputs: Mapping[str, TensorSpec]
) -> None:
    prefix = f"unable to load model '{config.name}', "
    spec = inputs.get(name)
    if spec is None:
        raise InvalidArgumentError(
            f"unexpected inference input '{name}', allowed inputs are: {', '.join(sorted(inputs))}"
        )
    if spec.datatype is not batch_input.datatype:
        raise InvalidArgumentError(
            f"{prefix}configuration expects datatype {batch_input.datatype.config_name} for batch input "
            f"'{name}', model provides TYPE_{spec.datatype.value}"
        )
    rank = 2 if batch_input.kind is BatchInputKind.ITEM_SHAPE else 1
    if spec.shape is not None and (len(spec.shape) != rank or spec.shape[0] != WILDCARD):
        wanted = "[-1,dims]" if rank == 2 else "[-1]"
        raise InvalidArgumentError(
            f"{prefix}configuration expects model provides input with shape {wanted} for batch input "
            f"'{name}' of kind {batch_input.kind.value}, model provides {_bracketed(spec.shape)}"
        )


def _graph_dims(tensor: TensorConfig) -> tuple[int, ...]:
    return tensor.dims if tensor.reshape is None else tensor.reshape


def _bracketed(dims: tuple[int, ...] | None) -> str:
    return f"[{','.join(str(dim) for dim in dims or ())}]"
