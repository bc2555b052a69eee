"""The `model_warmup` samples in domain terms: what a version runs before it is ready. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from naiad.config.messages import enum_name
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from naiad.config.messages import Message

WARMUP_FOLDER = "warmup"
"""Beside the version folders; Triton's name for it."""

MAX_RUNS = 10_000
"""Runs of one sample: a load that takes for ever never becomes a version that serves."""


NO_REQUEST = "[request id: <id_unknown>] "
"""How Triton begins what is wrong with the requests that it makes of a sample."""


class WarmupData(Enum):
    """Where an input's values come from; the value is the config's field."""

    ZERO = "zero_data"
    RANDOM = "random_data"
    FILE = "input_data_file"


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One input of a sample: `dims` of one item, without the batch dimension; -1 is refused.

    `data_file` lies in the model's folder `warmup`, and is empty unless `data` is FILE.
    """

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    data: WarmupData
    data_file: str = ""

    @property
    def elements(self) -> int:
        """How many elements one item has."""
        return math.prod(self.dims)


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """`count` runs of a batch of `batch_size` items, all alike, on each instance; none if that is 0."""

    name: str
    batch_size: int
    count: int
    inputs: tuple[WarmupInput, ...]


def read_warmup(message: Message) -> tuple[WarmupSample, ...]:
    """The samples of a `ModelConfig` message that are run, in order, checked by themselves.

    Raises:
        InvalidArgumentError: Triton's message for the first rule that is broken, or more than `MAX_RUNS`
            runs.
    """
    return tuple(_sample(sample, message.name) for sample in message.model_warmup if sample.batch_size)


def _sample(sample: Message, model: str) -> WarmupSample:
    if sample.count > MAX_RUNS:
        raise InvalidArgumentError(
            f"warmup sample '{sample.name}' of model '{model}' has count {sample.count}, "
            f"at most {MAX_RUNS} runs are made"
        )
    inputs = tuple(_input(name, tensor, model) for name, tensor in sorted(sample.inputs.items()))
    return WarmupSample(sample.name, sample.batch_size, max(1, sample.count), inputs)


def _input(name: str, tensor: Message, model: str) -> WarmupInput:
    if WILDCARD in tensor.dims:
        raise InvalidArgumentError(
            f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
        )
    if any(dim < 0 for dim in tensor.dims):
        raise InvalidArgumentError(f"warmup setting of input '{name}' has dims {list(tensor.dims)}")
    if enum_name(tensor, "data_type") == "TYPE_INVALID":
        raise InvalidArgumentError(f"warmup setting of input '{name}' must specify 'data_type' for {model}")
    if tensor.WhichOneof("input_data_type") is None:
        raise InvalidArgumentError(
            f"{NO_REQUEST}warmup setting expects input '{name}' to have input_data_type set"
        )
    return WarmupInput(
        name=name,
        datatype=DataType.from_config_name(enum_name(tensor, "data_type")),
        dims=tuple(tensor.dims),
        data=WarmupData(tensor.WhichOneof("input_data_type")),
        data_file=tensor.input_data_file,
    )
