"""Every field of a sequence_batching block reaches the domain, and what a block leaves out is Triton's default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.model_config import QueuePolicy, TensorConfig, TimeoutAction
from naiad.config.reader import read_model_config
from naiad.config.sequence_config import (
    ControlConfig,
    ControlKind,
    DirectStrategy,
    InitialState,
    OldestStrategy,
    SequenceBatching,
    StateConfig,
)
from naiad.core.datatypes import DataType

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL = """
max_batch_size: 8
sequence_batching {
  oldest {
    max_candidate_sequences: 16
    preferred_batch_size: [ 2, 4 ]
    max_queue_delay_microseconds: 50
    preserve_ordering: true
  }
  max_sequence_idle_microseconds: 7
  control_input [
    { name: "S" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0.5, 1.5 ] } ] },
    { name: "E" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
    { name: "R" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ -1, 1 ] } ] },
    { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } ] }
  ]
  state {
    input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: [ -1, 2 ]
    initial_state { name: "init" data_type: TYPE_FP32 dims: [ 3, 2 ] data_file: "start" }
  }
  state { input_name: "IN2" output_name: "OUT2" data_type: TYPE_INT64 dims: 1 }
}
"""


def test_a_full_block_reaches_the_domain(model_folder: Callable[..., Path]) -> None:
    folder = model_folder(FULL)
    config = read_model_config(folder)
    initial = InitialState("init", DataType.FP32, (3, 2), "start")
    assert config.folder == folder
    assert config.dynamic_batching is None
    assert config.sequence_batching == SequenceBatching(
        strategy=OldestStrategy(16, (2, 4), 50, preserve_ordering=True),
        max_sequence_idle_us=7,
        controls=(
            ControlConfig("S", ControlKind.START, DataType.FP32, 0.5, 1.5),
            ControlConfig("E", ControlKind.END, DataType.BOOL, 0, 1),
            ControlConfig("R", ControlKind.READY, DataType.INT32, -1, 1),
            ControlConfig("ID", ControlKind.CORRID, DataType.BYTES),
        ),
        states=(
            StateConfig("IN", "OUT", DataType.FP32, (-1, 2), initial),
            StateConfig("IN2", "OUT2", DataType.INT64, (1,)),
        ),
    )


def test_the_tensors_that_no_client_sends_are_told() -> None:
    block = SequenceBatching(
        controls=(ControlConfig("S", ControlKind.START, DataType.BOOL),),
        states=(StateConfig("IN", "OUT", DataType.FP32, (2,)),),
    )
    assert block.inputs == (TensorConfig("S", DataType.BOOL, (1,)), TensorConfig("IN", DataType.FP32, (2,)))
    assert block.outputs == (TensorConfig("OUT", DataType.FP32, (2,)),)


def test_an_empty_block_is_direct_with_a_second_of_idleness(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder("sequence_batching {}"))
    assert config.sequence_batching == SequenceBatching(DirectStrategy(0, 0.0), 1_000_000)
    assert config.message.sequence_batching.max_sequence_idle_microseconds == 1_000_000


def test_oldest_prefers_the_largest_batch_unless_it_says_otherwise(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder("max_batch_size: 8 sequence_batching { oldest {} }"))
    assert config.sequence_batching is not None
    assert config.sequence_batching.strategy == OldestStrategy(preferred_batch_sizes=(8,))
    assert list(config.message.sequence_batching.oldest.preferred_batch_size) == [8]


def test_queue_policies_reach_the_domain(model_folder: Callable[..., Path]) -> None:
    text = """
    dynamic_batching {
      preserve_ordering: false priority_levels: 3 default_priority_level: 2
      default_queue_policy { default_timeout_microseconds: 9 allow_timeout_override: true }
      priority_queue_policy { key: 3 value { timeout_action: DELAY max_queue_size: 4 } }
    }
    """
    batching = read_model_config(model_folder(text)).dynamic_batching
    assert batching is not None
    assert (batching.priority_levels, batching.default_priority_level) == (3, 2)
    assert batching.default_queue_policy == QueuePolicy(
        TimeoutAction.REJECT, default_timeout_us=9, allow_timeout_override=True
    )
    assert batching.priority_queue_policy == {3: QueuePolicy(TimeoutAction.DELAY, max_queue_size=4)}
