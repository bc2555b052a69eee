"""The `sequence_batching` block in domain terms: strategy, control tensors, implicit states. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from naiad.config.model_config import TensorConfig

if TYPE_CHECKING:
    from naiad.core.datatypes import DataType

DEFAULT_MAX_SEQUENCE_IDLE_US = 1_000_000
"""How long a sequence may be idle when the config does not say, in microseconds."""


class ControlKind(Enum):
    """What a control tensor tells the model."""

    START = "CONTROL_SEQUENCE_START"
    READY = "CONTROL_SEQUENCE_READY"
    END = "CONTROL_SEQUENCE_END"
    CORRID = "CONTROL_SEQUENCE_CORRID"


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """One control tensor, of dims [1]. A CORRID carries the sequence's id, the others one of two values."""

    name: str
    kind: ControlKind
    datatype: DataType
    false_value: float = 0
    true_value: float = 1


@dataclass(frozen=True, slots=True)
class InitialState:
    """A state's value at the start of a sequence: zeros, or a file in the model's `initial_state` folder.

    `dims` have no batch dimension. `data` is the file's content in row-major order once the version is
    loaded; `data_file` is empty for zeros.
    """

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    data_file: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class StateConfig:
    """One implicit state: an output of a request that is an input of the sequence's next one.

    `dims` have no batch dimension; -1 is any size.
    """

    input_name: str
    output_name: str
    datatype: DataType
    dims: tuple[int, ...]
    initial: InitialState | None = None


@dataclass(frozen=True, slots=True)
class DirectStrategy:
    """Each sequence keeps an instance and a row of its batches.

    A batch waits up to `max_queue_delay_us` until `minimum_slot_utilization` (0..1) of the rows have a
    request; 0 of either means that it does not wait.
    """

    max_queue_delay_us: int = 0
    minimum_slot_utilization: float = 0.0


@dataclass(frozen=True, slots=True)
class OldestStrategy:
    """Requests of up to `max_candidate_sequences` sequences an instance are merged as they come.

    Sizes count batch items, the delay is in microseconds; 0 candidates means as many as a batch has items.
    """

    max_candidate_sequences: int = 0
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    preserve_ordering: bool = False


@dataclass(frozen=True, slots=True)
class SequenceBatching:
    """How requests of one sequence meet the model: in order, with their control tensors and states."""

    strategy: DirectStrategy | OldestStrategy = field(default_factory=DirectStrategy)
    max_sequence_idle_us: int = DEFAULT_MAX_SEQUENCE_IDLE_US
    controls: tuple[ControlConfig, ...] = ()
    states: tuple[StateConfig, ...] = ()

    @property
    def inputs(self) -> tuple[TensorConfig, ...]:
        """The model inputs that the server fills and no client sends: controls, then states."""
        controls = (TensorConfig(control.name, control.datatype, (1,)) for control in self.controls)
        states = (TensorConfig(state.input_name, state.datatype, state.dims) for state in self.states)
        return (*controls, *states)

    @property
    def outputs(self) -> tuple[TensorConfig, ...]:
        """The model outputs that are states."""
        return tuple(TensorConfig(state.output_name, state.datatype, state.dims) for state in self.states)
