"""Reads the files that hold the initial values of implicit states."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.config.sequence_config import InitialState, StateConfig

INITIAL_STATE_FOLDER = "initial_state"
"""Beside the version folders; Triton's name for it."""

MAX_STATE_BYTES = 256 * 1024 * 1024
"""A state is copied for every sequence: a larger file is another kind of file under the wrong name."""


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
    content = _read(_path(initial, config))
    needed = math.prod(initial.dims) * initial.datatype.itemsize
    if needed > len(content):
        raise InvalidArgumentError(
            f"initial_state setting expects {needed} bytes, but the data provided from {initial.data_file} "
            f"only has {len(content)} bytes."
        )
    data = content if initial.datatype is DataType.BYTES else content[:needed]
    return replace(state, initial=replace(initial, data=data))


def _path(initial: InitialState, config: ModelConfig) -> Path:
    name = PurePosixPath(initial.data_file)
    if config.folder is None or name.is_absolute() or ".." in name.parts or "\0" in initial.data_file:
        raise InvalidArgumentError(
            f"data_file of initial_state '{initial.name}' of model '{config.name}' is "
            f"{initial.data_file!r}: it must stay inside the model's folder '{INITIAL_STATE_FOLDER}'"
        )
    return config.folder / INITIAL_STATE_FOLDER / name


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would block the loader for ever
            raise InvalidArgumentError(f"initial state file {path} is not there, or no regular file")
        size = path.stat().st_size
        if size > MAX_STATE_BYTES:
            raise InvalidArgumentError(
                f"initial state file {path} has {size} bytes, the limit is {MAX_STATE_BYTES}"
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read initial state file {path}: {error.strerror}") from error
