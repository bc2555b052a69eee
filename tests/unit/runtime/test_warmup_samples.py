"""Samples of `model_warmup`: every kind of data, checked against the model, run as often as they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.runtime import config
from support.sequences import CONTROLS, SUM

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.sequence_config import SequenceBatching
from naiad.config.warmup_config import WarmupData, WarmupInput, WarmupSample
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.core.tensors import TensorSpec
from naiad.runtime.warmup_samples import MAX_SAMPLE_BYTES, prepare_samples, run_samples

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from naiad.core.tensors import Array, Tensors

NUMBERS = [each for each in DataType if each is not DataType.BYTES]


def tensor(
    data: WarmupData = WarmupData.ZERO,
    datatype: DataType = DataType.FP32,
    dims: tuple[int, ...] = (2,),
    *,
    name: str = "X",
    file: str = "",
) -> WarmupInput:
    return WarmupInput(name, datatype, dims, data, file)


def model(
    *samples: WarmupSample, datatype: DataType = DataType.FP32, dims: tuple[int, ...] = (-1,), **fields: Any
) -> ModelConfig:
    """A batching model with the input X and these samples."""
    values: dict[str, Any] = {"max_batch_size": 4, "inputs": (TensorConfig("X", datatype, dims),)}
    return config(**(values | fields), warmup=samples)


def only(model_config: ModelConfig) -> dict[str, Array]:
    (prepared,) = prepare_samples(model_config)
    return prepared.feeds


def in_file(folder: Path, content: bytes, kind: DataType, dims: tuple[int, ...]) -> ModelConfig:
    (folder / "warmup").mkdir()
    (folder / "warmup" / "data").write_bytes(content)
    sample = WarmupSample("s", 2, 1, (tensor(WarmupData.FILE, kind, dims, file="data"),))
    return model(sample, datatype=kind, dims=dims, folder=folder)


def refusal(model_config: ModelConfig) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        prepare_samples(model_config)
    return caught.value.message


class Recorder:
    """A session that remembers what it was fed, and fails from a run on."""

    def __init__(self, fails_at: int = 1_000) -> None:
        self.batches: list[int] = []
        self._fails_at = fails_at

    def inputs(self) -> Sequence[TensorSpec]:
        return (TensorSpec("X", DataType.FP32, (-1, 2)),)

    def outputs(self) -> Sequence[TensorSpec]:
        return (TensorSpec("Y", DataType.FP32, (-1, 2)),)

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        if len(self.batches) == self._fails_at:
            raise InternalError("no such row")
        self.batches.append(len(inputs["X"]))
        return dict.fromkeys(outputs, inputs["X"])

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("datatype", list(DataType))
def test_zeros_of_every_datatype(datatype: DataType) -> None:
    """Zeros of BYTES are empty texts."""
    feeds = only(model(WarmupSample("s", 3, 1, (tensor(datatype=datatype),)), datatype=datatype))
    assert feeds["X"].shape == (3, 2)
    assert feeds["X"].dtype == datatype.numpy
    assert set(feeds["X"].reshape(-1).tolist()) == {b"" if datatype is DataType.BYTES else 0}


@pytest.mark.parametrize("datatype", NUMBERS)
def test_random_numbers_are_of_the_datatype_finite_and_the_same_in_each_load(datatype: DataType) -> None:
    sample = WarmupSample("s", 1, 1, (tensor(WarmupData.RANDOM, datatype, (500,)),))
    first, again = only(model(sample, datatype=datatype)), only(model(sample, datatype=datatype))
    assert first["X"].dtype == datatype.numpy
    np.testing.assert_array_equal(first["X"], again["X"])
    values = first["X"]
    if datatype is DataType.BF16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    assert len(set(values.reshape(-1).tolist())) > 1
    assert np.all(np.isfinite(values.astype(np.float64)))


def test_random_texts_are_empty_as_in_triton() -> None:
    sample = WarmupSample("s", 1, 1, (tensor(WarmupData.RANDOM, DataType.BYTES),))
    assert only(model(sample, datatype=DataType.BYTES))["X"].tolist() == [[b"", b""]]


def test_a_file_is_one_item_that_the_batch_repeats(tmp_path: Path) -> None:
    data = np.array([1.5, -2], np.float32)
    feeds = only(in_file(tmp_path, data.tobytes(), DataType.FP32, (2,)))
    assert feeds["X"].tolist() == [[1.5, -2], [1.5, -2]]


def test_texts_of_a_file_follow_their_lengths(tmp_path: Path) -> None:
    feeds = only(in_file(tmp_path, b"\x02\0\0\0ab\0\0\0\0", DataType.BYTES, (2,)))
    assert feeds["X"].tolist() == [[b"ab", b""], [b"ab", b""]]


@pytest.mark.parametrize(("size", "words"), [(7, "only has 7 bytes"), (9, "has 9 bytes")])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int, words: str) -> None:
    message = refusal(in_file(tmp_path, bytes(size), DataType.FP32, (2,)))
    assert message == (
        "[request id: <id_unknown>] warmup setting expects 8 bytes, but the data provided from data " + words
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x01\0\0\0a", "it holds 1"),
        (b"\x01\0\0\0a" * 3, "it holds 3"),
        (b"\x01\0\0\0a\x02\0\0\0b", "element 1 of 2 bytes is cut short"),
        (b"\x01\0\0\0a\x02\0\0", "its last 3 bytes are no length"),
    ],
)
def test_texts_that_are_not_what_the_dims_say_are_refused(tmp_path: Path, content: bytes, what: str) -> None:
    message = refusal(in_file(tmp_path, content, DataType.BYTES, (2,)))
    assert message.endswith(
        f"expects 2 string elements of input 'X' from data, each after its length in 4 bytes: {what}"
    )


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "a/../../secret", "nul\0"])
def test_a_file_must_stay_in_the_models_folder(tmp_path: Path, file: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    sample = WarmupSample("s", 1, 1, (tensor(WarmupData.FILE, file=file),))
    assert "must stay inside the model's folder 'warmup'" in refusal(model(sample, folder=tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    sample = WarmupSample("s", 1, 1, (tensor(WarmupData.FILE, file="gone"),))
    assert refusal(model(sample, folder=tmp_path)).startswith(
        f"warm-up file {tmp_path}/warmup/gone is not there"
    )


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (WarmupSample("s", 5, 1, (tensor(),)), "failed to run warmup sample 's': batch size 5 for 'm', max allowed is 4; "),
        (WarmupSample("s", 1, 1, ()), "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing required input(s) ['X']. Please provide all required input(s)."),
        (WarmupSample("s", 1, 1, (tensor(), tensor(name="W"))), "unexpected inference input 'W' for model 'm'"),
        (WarmupSample("s", 1, 1, (tensor(datatype=DataType.INT8),)), "[request id: <id_unknown>] inference input 'X' data-type is 'INT8', but model 'm' expects 'FP32'"),
        (WarmupSample("s", 1, 1, (tensor(dims=(2, 1)),)), "[request id: <id_unknown>] unexpected shape for input 'X' for model 'm'. Expected [-1,-1], got [1,2,1]"),
        (WarmupSample("s", 4, 1, (tensor(dims=(MAX_SAMPLE_BYTES // 16 + 1,)),)), f"warmup sample 's' of model 'm' has {MAX_SAMPLE_BYTES + 16} bytes, the limit is {MAX_SAMPLE_BYTES}"),
    ],
    ids=["batch size", "missing", "unknown", "datatype", "shape", "too large"],
)  # fmt: skip
def test_a_sample_that_does_not_suit_the_model_is_refused(sample: WarmupSample, message: str) -> None:
    assert refusal(model(sample)) == message


def test_a_model_without_batches_takes_a_batch_of_one_without_its_dimension() -> None:
    sample = WarmupSample("s", 1, 1, (tensor(),))
    assert only(model(sample, max_batch_size=0))["X"].shape == (2,)
    assert "batch size 2 for 'm', max allowed is 0" in refusal(
        model(WarmupSample("s", 2, 1, (tensor(),)), max_batch_size=0)
    )


def test_the_graph_gets_the_shape_that_it_wants() -> None:
    inputs = (TensorConfig("X", DataType.FP32, (2, 2), reshape=(4,)),)
    sample = WarmupSample("s", 3, 1, (tensor(dims=(2, 2)),))
    assert only(model(sample, inputs=inputs))["X"].shape == (3, 4)


def test_controls_and_states_that_a_sample_does_not_name_are_zeros() -> None:
    sample = WarmupSample("s", 2, 1, (tensor(), tensor(WarmupData.ZERO, DataType.INT32, (1,), name="START")))
    feeds = only(model(sample, sequence_batching=SequenceBatching(controls=CONTROLS[:3], states=(SUM,))))
    assert set(feeds) == {"X", "START", "END", "READY", SUM.input_name}
    assert feeds["START"].shape == feeds["END"].shape == (2, 1)


def test_each_sample_runs_as_often_as_it_says_in_order() -> None:
    samples = (WarmupSample("a", 2, 3, (tensor(),)), WarmupSample("b", 1, 1, (tensor(),)))
    session, model_config = Recorder(), model(*samples)
    outcomes = run_samples(session, model_config, prepare_samples(model_config))
    assert session.batches == [2, 2, 2, 1]
    assert [(outcome.sample, outcome.label) for outcome in outcomes] == [
        (samples[0], "sample 'a'"),
        (samples[1], "sample 'b'"),
    ]


def test_a_run_that_fails_names_its_sample_and_is_the_last() -> None:
    samples = (WarmupSample("a", 1, 2, (tensor(),)), WarmupSample("b", 3, 9, (tensor(),)))
    session, model_config = Recorder(fails_at=3), model(*samples)
    with pytest.raises(InvalidArgumentError) as caught:
        run_samples(session, model_config, prepare_samples(model_config))
    assert caught.value.message == "failed to run warmup sample 'b': no such row; "
    assert session.batches == [1, 1, 3]
