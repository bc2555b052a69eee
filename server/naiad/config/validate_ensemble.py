"""What Triton refuses in an ensemble's config before it looks at the models in it, in Triton's own words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naiad.config.ensemble_config import ENSEMBLE_PLATFORM, MAX_STEPS
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.messages import Message


@dataclass(slots=True)
class _Tensor:
    """A tensor of the ensemble: the step that makes it, those that read it, whether it can be computed."""

    name: str
    writer: _Step | None = None
    readers: list[_Step] = field(default_factory=list)
    is_ready: bool = False


class _Step:
    """What a step reads and makes.

    `missing` counts the inputs that are not known to be computable. `unseen` has the inputs at which the
    search for the first missing one has not looked.
    """

    __slots__ = ("missing", "outputs", "unseen")

    def __init__(self, inputs: Sequence[_Tensor], outputs: Sequence[_Tensor]) -> None:
        self.outputs = outputs
        self.missing = len(inputs)
        self.unseen = iter(inputs)


def validate_ensemble_backend(message: Message) -> None:
    """Raise InvalidArgumentError if the config names the ensemble platform and a backend beside it."""
    if message.platform == ENSEMBLE_PLATFORM and message.backend:
        raise InvalidArgumentError(
            f"Ensemble model '{message.name}' must have platform type '{message.platform}' "
            "and empty backend type"
        )


def validate_ensemble(message: Message) -> None:
    """Check what needs no other model: the steps are complete, every tensor comes from and leads somewhere.

    Args:
        message: a normalised config, of an ensemble or not.

    Raises:
        InvalidArgumentError: the first rule that is broken.
    """
    if not message.HasField("ensemble_scheduling"):
        if message.platform == ENSEMBLE_PLATFORM:
            raise InvalidArgumentError(
                f"ensemble scheduling must be set for ensemble {message.name} whose platform is "
                f"{ENSEMBLE_PLATFORM}"
            )
        return
    _validate_fields(message)
    tensors = _build_graph(message)
    _flow(message, tensors)
    _validate_outputs(message, tensors)
    _validate_used(message, tensors)


def _validate_fields(message: Message) -> None:
    name = message.name
    if message.platform != ENSEMBLE_PLATFORM:
        raise InvalidArgumentError(
            f"ensemble scheduling cannot be set for model '{name}' whose platform is not {ENSEMBLE_PLATFORM}"
        )
    if message.instance_group:
        raise InvalidArgumentError(f"instance group should not be specified for ensemble '{name}'")
    if message.HasField("optimization"):
        raise InvalidArgumentError(f"optimization should not be specified for ensemble '{name}'")
    if message.model_warmup:
        raise InvalidArgumentError(f"model_warmup can not be specified for ensemble '{name}'")
    steps = len(message.ensemble_scheduling.step)
    if not steps:
        raise InvalidArgumentError(f"must specify 'step' for ensemble '{name}'")
    if steps > MAX_STEPS:
        raise InvalidArgumentError(f"ensemble '{name}' has {steps} steps, at most {MAX_STEPS} are served")


def _build_graph(message: Message) -> dict[str, _Tensor]:
    """The tensors by name, joined by the steps."""
    tensors: dict[str, _Tensor] = {}
    for index, each in enumerate(message.ensemble_scheduling.step):
        _validate_step(message, index)
        written = [tensors.setdefault(name, _Tensor(name)) for _, name in sorted(each.output_map.items())]
        read = [tensors.setdefault(name, _Tensor(name)) for name in sorted(set(each.input_map.values()))]
        step = _Step(read, written)
        for tensor in written:
            if tensor.writer is not None:
                raise InvalidArgumentError(
                    f"ensemble tensor '{tensor.name}' can appear in an output map only once for ensemble "
                    f"'{message.name}' step {index}"
                )
            tensor.writer = step
        for tensor in read:
            tensor.readers.append(step)
    return tensors


def _validate_step(message: Message, index: int) -> None:
    step = message.ensemble_scheduling.step[index]
    where = f"in step {index} of ensemble '{message.name}'"
    for key in ("model_name", "input_map", "output_map"):
        if not getattr(step, key):
            raise InvalidArgumentError(f"must specify '{key}' {where}")
    # A folder of that name is looked for, which Triton does without this check.
    if "/" in step.model_name or "\0" in step.model_name or step.model_name in (".", ".."):
        raise InvalidArgumentError(
            f"invalid model name '{step.model_name}' {where}, "
            "model name must not contain path traversal characters"
        )


def _flow(message: Message, tensors: dict[str, _Tensor]) -> None:
    """Mark what can be computed from the ensemble's inputs."""
    ready: list[_Tensor] = []
    for tensor in message.input:
        given = tensors.get(tensor.name)
        if given is None:
            # The quotes are Triton's.
            raise InvalidArgumentError(
                f"ensemble input '{tensor.name}' for ensemble {message.name}' is not used"
            )
        if given.writer is not None:
            raise InvalidArgumentError(
                f"ensemble input '{tensor.name}' of ensemble '{message.name}' is in an output map too: "
                "it would have two values"
            )
        if not given.is_ready:
            given.is_ready = True
            ready.append(given)
    while ready:
        for step in ready.pop().readers:
            step.missing -= 1
            if not step.missing:
                for result in step.outputs:
                    result.is_ready = True
                ready += step.outputs


def _validate_outputs(message: Message, tensors: dict[str, _Tensor]) -> None:
    for output in message.output:
        tensor = tensors.get(output.name)
        if tensor is None:
            raise InvalidArgumentError(
                f"ensemble output '{output.name}' for ensemble {message.name}' is not used"
            )
        if tensor.is_ready:
            continue
        text = f"output '{output.name}' for ensemble '{message.name}' is not written"
        missing = _first_missing(tensor)
        if missing is not tensor:
            text += f": at least one of its depending tensors, '{missing.name}', is not connected"
        raise InvalidArgumentError(text)


def _first_missing(tensor: _Tensor) -> _Tensor:
    """Where the chain of tensors that cannot be computed begins; steps may go in a circle."""
    seen = {tensor.name}
    while tensor.writer is not None:
        unseen = (each for each in tensor.writer.unseen if not each.is_ready and each.name not in seen)
        missing = next(unseen, None)
        if missing is None:
            break
        tensor = missing
        seen.add(tensor.name)
    return tensor


def _validate_used(message: Message, tensors: dict[str, _Tensor]) -> None:
    outputs = {output.name for output in message.output}
    for name, tensor in tensors.items():
        if name not in outputs and not (tensor.is_ready and tensor.readers):
            raise InvalidArgumentError(f"ensemble tensor '{name}' is unused in ensemble '{message.name}'")
