"""Does the graph have a sequence model's control tensors? Triton's checks at load, in its words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InternalError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.config.sequence_config import ControlConfig
    from naiad.core.tensors import TensorSpec


def check_controls(
    config: ModelConfig, controls: Sequence[ControlConfig], inputs: Sequence[TensorSpec]
) -> None:
    """Compare each control tensor with the graph's input of its name.

    Raises:
        InvalidArgumentError: its dims are not [1], or its datatype is another.
        InternalError: the graph has no such input (Triton's code for it).
    """
    known = {spec.name: spec for spec in inputs}
    for control in controls:
        spec = known.get(control.name)
        if spec is None:
            raise InternalError(
                f"configuration specified sequence control '{control.name}', but model does not provide that "
                "input"
            )
        prefix = f"unable to load model '{config.name}', sequence control '{control.name}'"
        dims = None if spec.shape is None else spec.shape[1 if config.max_batch_size > 0 else 0 :]
        if dims not in (None, (1,)):
            shown = ",".join(str(dim) for dim in dims)
            raise InvalidArgumentError(f"{prefix} in model has dims [{shown}] but dims [1] is expected")
        if spec.datatype is not control.datatype:
            raise InvalidArgumentError(
                f"{prefix}, the model expects data-type TYPE_{spec.datatype.value} but the model "
                f"configuration specifies data-type {control.datatype.config_name}"
            )
