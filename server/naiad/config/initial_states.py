"""Reads the files that hold the initial values of implicit states."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from naiad.config.data_files import DataFiles, read_data_file
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.config.sequence_config import StateConfig

INITIAL_STATE_FOLDER = "initial_state"
"""Beside the version folders; Triton's name for it."""

MAX_STATE_BYTES = 256 * 1024 * 1024
"""A state is copied for every sequence: a larger file is another kind of file under the wrong name."""

STATE_FILES = DataFiles("initial state", INITIAL_STATE_FOLDER, MAX_STATE_BYTES)


def read_initial_states(config: ModelConfig) -> ModelConfig:
    """The config with the content of each `data_file` of its states' initial values.

    Raises:
        InvalidArgumentError: a file's name leads out of the `initial_state` folder, or it cannot be read, or
            it holds fewer bytes than the state has, or more than `MAX_STATE_BYTES`.
    """
    sequences = config.sequence_batching
    if sequences is None or not any(state.initial and state.initial.data_file for state in sequences.states):
        return config
    states = tuple(_with_data(state, config) for state in sequences.states)
    return replace(config, sequence_batching=replace(sequences, states=states))


def _with_data(state: StateConfig, config: ModelConfig) -> StateConfig:
    initial = state.initial
    if initial is None or not initial.data_file:
        return state
    content = read_data_file(
        config, STATE_FILES, initial.data_file, setting=f"data_file of initial_state '{initial.name}'"
    )
    needed = math.prod(initial.dims) * initial.datatype.itemsize
    if needed > len(content):
        raise InvalidArgumentError(
            f"initial_state setting expects {needed} bytes, but the data provided from {initial.data_file} "
            f"only has {len(content)} bytes."
        )
    data = content if initial.datatype is DataType.BYTES else content[:needed]
    return replace(state, initial=replace(initial, data=data))
