"""The files of initial states: found in their folder only, checked for their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.config.initial_states import MAX_STATE_BYTES, read_initial_states
from naiad.config.model_config import ModelConfig
from naiad.config.sequence_config import InitialState, SequenceBatching, StateConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path


def config(folder: Path | None, data_file: str, datatype: DataType = DataType.FP32) -> ModelConfig:
    initial = InitialState("init", datatype, (2,), data_file)
    states = (StateConfig("IN", "OUT", datatype, (2,), initial), StateConfig("IN2", "OUT2", datatype, (2,)))
    return ModelConfig("m", 0, (), (), sequence_batching=SequenceBatching(states=states), folder=folder)


def data(read: ModelConfig) -> bytes:
    assert read.sequence_batching is not None
    initial = read.sequence_batching.states[0].initial
    assert initial is not None
    return initial.data


def write(folder: Path, content: bytes, name: str = "start") -> Path:
    (folder / "initial_state").mkdir()
    path = folder / "initial_state" / name
    path.write_bytes(content)
    return path


def test_a_file_is_read_as_far_as_the_state_goes(tmp_path: Path) -> None:
    write(tmp_path, b"12345678 and more")
    assert data(read_initial_states(config(tmp_path, "start"))) == b"12345678"


def test_text_takes_the_whole_file(tmp_path: Path) -> None:
    write(tmp_path, b"\x01\0\0\0a")
    assert data(read_initial_states(config(tmp_path, "start", DataType.BYTES))) == b"\x01\0\0\0a"


def test_without_a_file_nothing_is_read() -> None:
    without = config(None, "")
    assert read_initial_states(without) is without
    plain = ModelConfig("m", 0, (), ())
    assert read_initial_states(plain) is plain


def test_a_file_that_is_too_short_is_refused_in_tritons_words(tmp_path: Path) -> None:
    write(tmp_path, b"1234567")
    with pytest.raises(InvalidArgumentError) as caught:
        read_initial_states(config(tmp_path, "start"))
    assert caught.value.message.startswith("initial_state setting expects 8 bytes, but the data")
    assert "only has 7 bytes" in caught.value.message


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../b", "nul\0"])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must stay inside the model's folder 'initial_state'"):
        read_initial_states(config(tmp_path, name))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path, b"")
    for name in ("gone", "."):
        with pytest.raises(InvalidArgumentError, match="not there, or no regular file"):
            read_initial_states(config(tmp_path, name))


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with write(tmp_path, b"").open("r+b") as file:
        file.truncate(MAX_STATE_BYTES + 1)
    with pytest.raises(InvalidArgumentError, match=f"the limit is {MAX_STATE_BYTES}"):
        read_initial_states(config(tmp_path, "start"))
