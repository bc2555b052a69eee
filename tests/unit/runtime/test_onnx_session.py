"""Every datatype goes through the engine and back, and its refusals become our errors."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import add_sub, identity, info, model, unchecked, weights_as_inputs
from support.runtime import CPU_PLAN, config, cpu_session, save

from naiad.config.model_config import TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError, UnsupportedError
from naiad.core.tensors import TensorSpec
from naiad.runtime.graph import PreparedModel, prepare_model
from naiad.runtime.onnx_session import open_session
from naiad.runtime.providers import CPU, CUDA, Provider, ProviderPlan

if TYPE_CHECKING:
    from pathlib import Path

NUMERIC = {
    DataType.BOOL: TensorProto.BOOL,
    DataType.UINT8: TensorProto.UINT8,
    DataType.UINT16: TensorProto.UINT16,
    DataType.UINT32: TensorProto.UINT32,
    DataType.UINT64: TensorProto.UINT64,
    DataType.INT8: TensorProto.INT8,
    DataType.INT16: TensorProto.INT16,
    DataType.INT32: TensorProto.INT32,
    DataType.INT64: TensorProto.INT64,
    DataType.FP16: TensorProto.FLOAT16,
    DataType.FP32: TensorProto.FLOAT,
    DataType.FP64: TensorProto.DOUBLE,
    DataType.BF16: TensorProto.BFLOAT16,
}


@pytest.mark.parametrize("datatype", NUMERIC, ids=lambda datatype: datatype.value)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3)], ids=["filled", "empty"])
def test_round_trip(tmp_path: Path, datatype: DataType, shape: tuple[int, ...]) -> None:
    session = cpu_session(identity(NUMERIC[datatype], ["N", 3]), tmp_path)
    assert session.inputs() == (TensorSpec("INPUT0", datatype, (-1, 3)),)
    assert session.outputs() == (TensorSpec("OUTPUT0", datatype, (-1, 3)),)
    sent = np.arange(np.prod(shape)).reshape(shape).astype(datatype.numpy)
    received = session.run({"INPUT0": sent}, ["OUTPUT0"])["OUTPUT0"]
    assert received.dtype == datatype.numpy
    np.testing.assert_array_equal(received, sent)


def test_every_datatype_is_covered() -> None:
    assert set(NUMERIC) | {DataType.BYTES} == set(DataType)


def objects(*elements: bytes) -> np.ndarray[Any, np.dtype[np.object_]]:
    return np.array(elements, dtype=np.object_)


def test_text_goes_in_and_comes_out_as_bytes(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.STRING, ["N", 2]), tmp_path)
    sent = objects(b"", "é".encode(), b"a\x00b", b"b'quoted'").reshape(2, 2)
    received = session.run({"INPUT0": sent}, ["OUTPUT0"])["OUTPUT0"]
    assert received.shape == (2, 2)
    assert received.tolist() == sent.tolist()


def test_text_that_is_not_utf8_passes_through_the_engine(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.STRING, ["N"]), tmp_path)
    sent = objects(b"fine", b"\xff\xfe", b"a\x80\x00z")
    assert session.run({"INPUT0": sent}, ["OUTPUT0"])["OUTPUT0"].tolist() == sent.tolist()


def test_bf16_keeps_its_bits_beside_other_types(tmp_path: Path) -> None:
    """BF16 in; BF16, text and FP32 out of one run, from memory that is not contiguous."""
    session = cpu_session(
        model(
            [
                helper.make_node("Identity", ["A"], ["bits"]),
                helper.make_node("Cast", ["A"], ["wide"], to=TensorProto.FLOAT),
                helper.make_node("Identity", ["B"], ["plain"]),
                helper.make_node("Constant", [], ["text"], value_strings=[b"x"]),
            ],
            [info("A", TensorProto.BFLOAT16, ["N"]), info("B", TensorProto.INT64, [])],
            [
                info("bits", TensorProto.BFLOAT16, ["N"]),
                info("wide", TensorProto.FLOAT, ["N"]),
                info("plain", TensorProto.INT64, []),
                info("text", TensorProto.STRING, [1]),
            ],
        ),
        tmp_path,
    )
    one, two = 0x3F80, 0x4000
    feeds = {"A": np.array([one, 0, two, 0], np.uint16)[::2], "B": np.array(7)}
    received = session.run(feeds, ["wide", "bits", "plain", "text"])
    assert received["bits"].tolist() == [one, two]
    assert received["wide"].tolist() == [1.0, 2.0]
    assert received["plain"].shape == ()
    assert received["text"].tolist() == [b"x"]
    assert session.run(feeds, ["wide"])["wide"].tolist() == [1.0, 2.0]


def test_text_into_bf16_is_refused_at_open(tmp_path: Path) -> None:
    built = model(
        [
            helper.make_node("Cast", ["T"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["wide"], ["B"], to=TensorProto.BFLOAT16),
        ],
        [info("T", TensorProto.STRING, ["N"])],
        [info("B", TensorProto.BFLOAT16, ["N"])],
    )
    with pytest.raises(UnsupportedError, match="BYTES input 'T' and BF16 output 'B'"):
        cpu_session(built, tmp_path)


def test_scalars_and_unknown_ranks(tmp_path: Path) -> None:
    built = unchecked(
        [
            helper.make_node("Identity", ["A"], ["B"]),
            helper.make_node("ReduceMax", ["C"], ["D"], keepdims=0),
        ],
        [info("A", TensorProto.FLOAT, None), info("C", TensorProto.FLOAT, ["N", None])],
        [info("B", TensorProto.FLOAT, None), info("D", TensorProto.FLOAT, [])],
    )
    session = cpu_session(built, tmp_path)
    assert [spec.shape for spec in session.inputs()] == [None, (-1, -1)]
    assert [spec.shape for spec in session.outputs()] == [None, ()]
    feeds = {"A": np.ones((1, 2, 3), np.float32), "C": np.array([[1, 5]], np.float32)}
    received = session.run(feeds, ["B", "D"])
    assert received["B"].shape == (1, 2, 3)
    assert received["D"].shape == ()


def test_requested_outputs_only_in_the_callers_order(tmp_path: Path) -> None:
    session = cpu_session(add_sub(), tmp_path)
    three, two = np.full((1, 16), 3, np.int32), np.full((1, 16), 2, np.int32)
    received = session.run({"INPUT1": two, "INPUT0": three}, ("OUTPUT1", "OUTPUT0"))
    assert list(received) == ["OUTPUT1", "OUTPUT0"]
    assert received["OUTPUT1"][0, 0] == 1
    assert received["OUTPUT0"][0, 0] == 5
    assert session.run({"INPUT1": two, "INPUT0": three}, ()) == {}


def test_received_memory_is_taken_as_it_lies(tmp_path: Path) -> None:
    """Read-only views of a message run without being copied or written first."""
    session = cpu_session(identity(TensorProto.FLOAT, ["N", 2]), tmp_path)
    view = np.frombuffer(np.arange(4, dtype=np.float32).tobytes(), np.float32).reshape(2, 2)
    assert not view.flags.writeable
    np.testing.assert_array_equal(session.run({"INPUT0": view}, ["OUTPUT0"])["OUTPUT0"], view)


def test_overridable_inputs_are_listed_last_and_may_be_left_out(tmp_path: Path) -> None:
    declared = config(
        inputs=(TensorConfig("X", DataType.FP32, (-1, 4)), TensorConfig("W", DataType.FP32, (4,)))
    )
    session = cpu_session(weights_as_inputs(), tmp_path, declared)
    assert [spec.name for spec in session.inputs()] == ["X", "W"]
    assert session.overridable == {"W"}
    zeros = np.zeros((1, 4), np.float32)
    assert session.run({"X": zeros}, ["Y"])["Y"][0, 0] == 2
    assert session.run({"X": zeros, "W": np.full(4, 5, np.float32)}, ["Y"])["Y"][0, 0] == 10


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"INPUT0": np.zeros((1, 16), np.int32)}, "INPUT1"),
        (
            {"INPUT0": np.zeros((1, 3), np.int32), "INPUT1": np.zeros((1, 16), np.int32)},
            "Got: 3 Expected: 16",
        ),
        ({"INPUT0": np.zeros((1, 16), np.float32), "INPUT1": np.zeros((1, 16), np.int32)}, "data type"),
    ],
    ids=["missing", "shape", "type"],
)
def test_wrong_inputs_are_the_callers_fault(tmp_path: Path, feeds: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        cpu_session(add_sub(), tmp_path).run(feeds, ["OUTPUT0"])


def test_a_failing_run_is_an_internal_error_and_says_nothing_on_the_console(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    feeds = {"INPUT0": np.zeros((2, 16), np.int32), "INPUT1": np.zeros((3, 16), np.int32)}
    with pytest.raises(InternalError, match="broadcast") as caught:
        cpu_session(add_sub(), tmp_path).run(feeds, ["OUTPUT0"])
    assert "onnxruntime_src" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_sequences_are_refused_at_open(tmp_path: Path) -> None:
    built = model(
        [helper.make_node("SequenceConstruct", ["X"], ["Y"])],
        [info("X", TensorProto.FLOAT, [1])],
        [helper.make_tensor_sequence_value_info("Y", TensorProto.FLOAT, None)],
    )
    with pytest.raises(UnsupportedError, match=r"output 'Y' is of type seq\(tensor\(float\)\)"):
        cpu_session(built, tmp_path)


def test_an_unknown_operator_is_told_in_the_engines_words(tmp_path: Path) -> None:
    built = unchecked(
        [helper.make_node("Nope", ["X"], ["Y"])],
        [info("X", TensorProto.FLOAT, [1])],
        [info("Y", TensorProto.FLOAT, [1])],
    )
    with pytest.raises(InternalError, match=r"onnx runtime error 10: .*Nope"):
        cpu_session(built, tmp_path)


def test_weights_outside_the_models_folder_are_refused(tmp_path: Path) -> None:
    built = weights_as_inputs()
    weights = built.graph.initializer[0]
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret.bin")
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    folder = tmp_path / "1"
    folder.mkdir()
    with pytest.raises(InvalidArgumentError, match="is not inside the folder"):
        cpu_session(built, folder)


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_a_provider_that_cannot_be_had_is_dropped_with_a_reason(tmp_path: Path) -> None:
    plan = ProviderPlan((Provider(CUDA, {"device_id": "0"}), Provider(CPU)), (CUDA, CPU), (), gpu_count=1)
    prepared = prepare_model(save(add_sub(), tmp_path), ())
    session = open_session(prepared, config(), plan, 1, 1)
    assert session.providers == (CPU,)
    assert not session.on_gpu
    assert session.dropped[CUDA]


def test_a_provider_that_fails_is_not_blamed_for_the_model(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="onnx runtime error 7: "):
        open_session(PreparedModel(b"garbage"), config(), CPU_PLAN, 1, 1)


def test_settings_reach_the_engine(tmp_path: Path) -> None:
    parameters = {
        "enable_mem_arena": "0",
        "enable_mem_pattern": "0",
        "execution_mode": "1",
        "memory.enable_memory_arena_shrinkage": "cpu:0",
        "session.set_denormal_as_zero": "1",
    }
    prepared = prepare_model(save(add_sub(), tmp_path), ())
    session = open_session(prepared, config(parameters=parameters, graph_level=2), CPU_PLAN, 3, 2)
    options = session._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert options.execution_mode.name == "ORT_PARALLEL"
    assert options.graph_optimization_level.name == "ORT_DISABLE_ALL"
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("spin", [False, True])
def test_idle_threads_spin_only_when_told(tmp_path: Path, *, spin: bool) -> None:
    session = open_session(prepare_model(save(add_sub(), tmp_path), ()), config(), CPU_PLAN, 2, 1, spin=spin)
    options = session._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spin))


@pytest.mark.parametrize(
    ("dims", "parameters", "kept"),
    [
        (["N", 3], {}, True),
        (["N", "W"], {}, False),
        (["N", "W"], {"enable_mem_pattern": "1"}, True),
    ],
    ids=["fixed", "free", "free and asked for"],
)
def test_memory_patterns_are_kept_for_shapes_that_come_again(
    tmp_path: Path, dims: list[int | str | None], parameters: dict[str, str], *, kept: bool
) -> None:
    """Each new shape leaves a pattern behind, and pictures of every size never end."""
    built = identity(TensorProto.FLOAT, dims)
    session = cpu_session(built, tmp_path, config(parameters=parameters))
    assert session._session.get_session_options().enable_mem_pattern is kept


def test_run_may_be_called_from_several_threads(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.INT64, ["N"]), tmp_path)
    wrong: list[int] = []

    def run(number: int) -> None:
        for _ in range(50):
            sent = np.full(8, number)
            if not np.array_equal(session.run({"INPUT0": sent}, ["OUTPUT0"])["OUTPUT0"], sent):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_close_twice(tmp_path: Path) -> None:
    session = cpu_session(add_sub(), tmp_path)
    session.close()
    session.close()
