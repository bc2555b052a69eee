"""Lanes over ONNX Runtime itself: its binding takes the host's memory as it takes a GPU's."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.gpu import HostDriver
from support.onnx_models import add_sub, identity, info, looping, model
from support.runtime import config, cpu_session

from naiad.config.model_config import TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import CancelledError, InternalError
from naiad.runtime.cuda.lanes import InstanceLanes, open_lanes
from naiad.runtime.warmup import warm_up

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from naiad.config.model_config import ModelConfig

BINDABLE = {
    DataType.BOOL: TensorProto.BOOL,
    DataType.UINT8: TensorProto.UINT8,
    DataType.INT64: TensorProto.INT64,
    DataType.FP16: TensorProto.FLOAT16,
    DataType.FP64: TensorProto.DOUBLE,
    DataType.BF16: TensorProto.BFLOAT16,
}


def described(built: onnx.ModelProto, folder: Path, **fields: Any) -> tuple[ModelConfig, InstanceLanes]:
    """The lanes of a model of at most 4 batch items, its config taken from its graph."""
    session = cpu_session(built, folder)
    batched = fields.setdefault("max_batch_size", 4) > 0

    def tensors(specs: Any) -> tuple[TensorConfig, ...]:
        return tuple(
            TensorConfig(each.name, each.datatype, each.shape[1:] if batched else each.shape)
            for each in specs
        )

    described_as = replace(
        config(**fields), inputs=tensors(session.inputs()), outputs=tensors(session.outputs())
    )
    laned = open_lanes(
        session, described_as, name="m_0", gpu=0, reopen=lambda: session, load=lambda _: HostDriver()
    )
    return described_as, laned


def test_batches_of_every_size_are_right_on_both_lanes(tmp_path: Path) -> None:
    _, laned = described(add_sub(), tmp_path)
    assert len(laned.lanes) == 2
    for rows in (3, 1, 4, 2):
        for lane in laned.lanes:
            left = np.arange(rows * 16, dtype=np.int32).reshape(rows, 16)
            right = np.full((rows, 16), rows, np.int32)
            found = lane.run({"INPUT0": left, "INPUT1": right}, ["OUTPUT0", "OUTPUT1"])
            np.testing.assert_array_equal(found["OUTPUT0"], left + right)
            np.testing.assert_array_equal(found["OUTPUT1"], left - right)
            assert list(lane.run({"INPUT0": left, "INPUT1": right}, ["OUTPUT1"])) == ["OUTPUT1"]
    laned.close()


@pytest.mark.parametrize("datatype", BINDABLE, ids=lambda each: each.value)
def test_every_kind_of_datatype_goes_through_the_buffers(tmp_path: Path, datatype: DataType) -> None:
    _, laned = described(identity(BINDABLE[datatype], ["N", 3]), tmp_path)
    sent = np.arange(9).reshape(3, 3).astype(datatype.numpy)
    found = laned.lanes[0].run({"INPUT0": sent}, ["OUTPUT0"])["OUTPUT0"]
    assert found.dtype == datatype.numpy
    np.testing.assert_array_equal(found, sent)
    assert laned.lanes[0].sizes == (1, 2, 4)
    laned.close()


def test_text_is_left_to_the_engine_and_a_note_says_so(tmp_path: Path) -> None:
    _, laned = described(identity(TensorProto.STRING, ["N", 1]), tmp_path)
    assert len(laned.lanes) == 1
    assert "tensors are copied in each run: input 'INPUT0' is text" in laned.notes
    sent = np.array([[b"a"], [b"b"]], dtype=np.object_)
    found = laned.lanes[0].run({"INPUT0": sent}, ["OUTPUT0"])["OUTPUT0"]
    assert found.tolist() == [[b"a"], [b"b"]]
    laned.close()


def test_an_output_of_another_shape_in_each_run_is_read_and_cut(tmp_path: Path) -> None:
    """As wide as the batch's largest value: the engine allocates it, and the rows of padding are cut off."""
    repeat = model(
        [
            helper.make_node("ReduceMax", ["INPUT0"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["width"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["width", "one"], ["widths"]),
            helper.make_node("Concat", ["one", "widths"], ["shape"], axis=0),
            helper.make_node("Expand", ["INPUT0", "shape"], ["OUTPUT0"]),
            helper.make_node("Neg", ["INPUT0"], ["OUTPUT1"]),
        ],
        [info("INPUT0", TensorProto.FLOAT, ["N", 1])],
        [info("OUTPUT0", TensorProto.FLOAT, ["N", "W"]), info("OUTPUT1", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    _, laned = described(repeat, tmp_path)
    for rows in (3, 1, 3, 4):
        sent = np.arange(1, rows + 1, dtype=np.float32).reshape(rows, 1)
        found = laned.lanes[0].run({"INPUT0": sent}, ["OUTPUT0", "OUTPUT1"])
        np.testing.assert_array_equal(found["OUTPUT0"], np.repeat(sent, rows, axis=1))
        np.testing.assert_array_equal(found["OUTPUT1"], -sent)
    laned.close()


def test_a_model_without_batches_is_bound_as_it_is(tmp_path: Path) -> None:
    _, laned = described(add_sub(batch=None), tmp_path, max_batch_size=0)
    lane = laned.lanes[0]
    ones = np.ones(16, np.int32)
    assert (lane.sizes, lane.plan_sizes, lane.bucket_for(1)) == ((), (1,), 1)
    for value in (1, 2):
        found = lane.run({"INPUT0": ones * value, "INPUT1": ones}, ["OUTPUT0"])["OUTPUT0"]
        assert found.tolist() == [value + 1] * 16
    laned.close()


def test_a_value_that_the_graph_refuses_fails_its_batch_alone(tmp_path: Path) -> None:
    gather = model(
        [helper.make_node("Gather", ["table", "INDEX"], ["OUTPUT0"])],
        [info("INDEX", TensorProto.INT64, ["N", 1])],
        [info("OUTPUT0", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor("table", TensorProto.FLOAT, [2], [5.0, 6.0])],
    )
    _, laned = described(gather, tmp_path)
    lane = laned.lanes[0]
    with pytest.raises(InternalError, match="^Non-zero status code .* indices element out of data bounds"):
        lane.run({"INDEX": np.array([[1], [7], [0]])}, ["OUTPUT0"])
    found = lane.run({"INDEX": np.array([[1], [0], [1]])}, ["OUTPUT0"])["OUTPUT0"]
    assert found.tolist() == [[6.0], [5.0], [6.0]]  # the 7 is not in its padding
    laned.close()


def test_a_long_run_is_terminated_and_the_next_one_is_not(tmp_path: Path) -> None:
    built = looping()
    _, laned = described(built, tmp_path, max_batch_size=1)
    lane = laned.lanes[0]
    errors: list[BaseException] = []

    def run(turns: int) -> None:
        try:
            lane.run({"INPUT0": np.zeros((1, 1), np.float32), "COUNT": np.array([[turns]])}, ["OUTPUT0"])
        except CancelledError as error:
            errors.append(error)

    run(1)
    endless = threading.Thread(target=run, args=(2**40,))
    endless.start()
    lane.terminate()
    endless.join()
    assert len(errors) == 1
    lane.rearm()
    run(2)
    assert len(errors) == 1
    laned.close()


def test_it_is_warmed_at_each_of_its_sizes(tmp_path: Path) -> None:
    model_config, laned = described(add_sub(), tmp_path, parameters={"naiad.batch_buckets": "3,4"})
    report = warm_up(laned.lanes[0], model_config)
    assert [run.batch_size for run in report.runs] == [3, 4]
    laned.close()
