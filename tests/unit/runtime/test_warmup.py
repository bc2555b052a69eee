"""Warm-up runs each batch size once, fills free dimensions, and reports what fails without failing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper
from support.onnx_models import add_sub, identity, info, model
from support.runtime import config, cpu_session
from support.sequences import CONTROLS, SUM, accumulate, dyna_sequence

from naiad.config.model_config import DynamicBatching, TensorConfig
from naiad.config.sequence_config import ControlConfig, ControlKind, OldestStrategy, SequenceBatching
from naiad.config.vision_config import ColorOrder, InputConfig, Layout, Resize, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.runtime.warmup import WarmupReport, not_finite, warm_up

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from naiad.config.model_config import ModelConfig


def shapes(report: WarmupReport) -> list[tuple[int, ...]]:
    return [shape for run in report.runs for _, shape in run.shapes]


def picture_config(layout: Layout, dims: tuple[int, ...], max_batch_size: int) -> ModelConfig:
    picture = InputConfig("INPUT0", Resize.LETTERBOX, 64, 48, ColorOrder.RGB, layout, (0.0,), (1.0,))
    return config(
        max_batch_size=max_batch_size,
        inputs=(TensorConfig("INPUT0", DataType.FP32, dims),),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, dims),),
        vision=VisionConfig(Task.DETECT, picture),
    )


def test_batch_one_each_preferred_and_the_largest(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.FLOAT, ["N", 4]), tmp_path)
    report = warm_up(
        session,
        config(
            max_batch_size=8,
            inputs=(TensorConfig("INPUT0", DataType.FP32, (4,)),),
            outputs=(TensorConfig("OUTPUT0", DataType.FP32, (4,)),),
            dynamic_batching=DynamicBatching((4, 2, 8)),
        ),
    )
    assert [run.batch_size for run in report.runs] == [1, 2, 4, 8]
    assert shapes(report) == [(1, 4), (2, 4), (4, 4), (8, 4)]
    assert (report.skipped, report.warnings) == ((), ())


def test_a_model_without_batches_runs_its_one_shape(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.FLOAT, [3, 4]), tmp_path)
    report = warm_up(session, config(inputs=(TensorConfig("INPUT0", DataType.FP32, (3, 4)),)))
    assert shapes(report) == [(3, 4)]


def test_free_dimensions_of_a_picture_take_its_size(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.FLOAT, [None, None, None, None]), tmp_path)
    nchw = warm_up(session, picture_config(Layout.NCHW, (3, -1, -1), 2))
    assert shapes(nchw) == [(1, 3, 48, 64), (2, 3, 48, 64)]
    nhwc = warm_up(session, picture_config(Layout.NHWC, (-1, -1, -1, -1), 0))
    assert shapes(nhwc) == [(1, 48, 64, 3)]


def test_other_free_dimensions_are_one_and_reshape_is_what_the_graph_wants(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.FLOAT, ["N", None, 4]), tmp_path)
    tensor = TensorConfig("INPUT0", DataType.FP32, (4, -1), reshape=(-1, 4))
    assert shapes(warm_up(session, config(max_batch_size=1, inputs=(tensor,)))) == [(1, 1, 4)]


def test_a_guess_that_fails_is_skipped(tmp_path: Path) -> None:
    """A 5x5 convolution cannot run on the 1x1 picture that was guessed."""
    built = model(
        [helper.make_node("MaxPool", ["X"], ["Y"], kernel_shape=[5, 5])],
        [info("X", TensorProto.FLOAT, [1, 1, "H", "W"])],
        [info("Y", TensorProto.FLOAT, [1, 1, "h", "w"])],
    )
    tensor = TensorConfig("X", DataType.FP32, (1, 1, -1, -1))
    report = warm_up(cpu_session(built, tmp_path), config(inputs=(tensor,)))
    assert report.runs == ()
    assert "warm-up with X [1, 1, 1, 1] failed" in report.skipped[0]
    assert report.warnings == ()


def test_a_fixed_shape_that_fails_is_a_warning(tmp_path: Path) -> None:
    tensors = (TensorConfig("INPUT0", DataType.INT32, (5,)), TensorConfig("INPUT1", DataType.INT32, (16,)))
    report = warm_up(cpu_session(add_sub(), tmp_path), config(max_batch_size=1, inputs=tensors))
    assert "INPUT0 [1, 5], INPUT1 [1, 16]" in report.warnings[0]
    assert report.skipped == ()


def test_empty_text_that_the_model_cannot_read_is_no_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built = model(
        [helper.make_node("Cast", ["T"], ["Y"], to=TensorProto.FLOAT)],
        [info("T", TensorProto.STRING, ["N", 1])],
        [info("Y", TensorProto.FLOAT, ["N", 1])],
    )
    tensor = TensorConfig("T", DataType.BYTES, (1,))
    report = warm_up(cpu_session(built, tmp_path), config(max_batch_size=1, inputs=(tensor,)))
    assert report.runs == ()
    assert (report.skipped, report.warnings) == ((), ())
    assert "T [1, 1]" in report.quiet[0]
    assert capfd.readouterr() == ("", "")


def test_optional_inputs_are_left_out(tmp_path: Path) -> None:
    session = cpu_session(identity(TensorProto.FLOAT, ["N"]), tmp_path)
    tensors = (
        TensorConfig("INPUT0", DataType.FP32, (2,)),
        TensorConfig("EXTRA", DataType.FP32, (2,), optional=True),
    )
    assert shapes(warm_up(session, config(inputs=tensors))) == [(2,)]


SEQUENCES: dict[str, Any] = {
    "max_batch_size": 4,
    "inputs": (TensorConfig("INPUT", DataType.INT32, (1,)),),
    "outputs": (TensorConfig("OUTPUT", DataType.INT32, (1,)),),
}


def test_control_tensors_are_fed_and_a_text_id_is_one_that_graphs_can_read(tmp_path: Path) -> None:
    """The graph turns the id into a number, which an empty text is not."""
    corrid = ControlConfig("CORRID", ControlKind.CORRID, DataType.BYTES)
    batching = SequenceBatching(OldestStrategy(preferred_batch_sizes=(2,)), controls=(*CONTROLS[:3], corrid))
    session = cpu_session(dyna_sequence(TensorProto.STRING), tmp_path)
    report = warm_up(session, config(**SEQUENCES, sequence_batching=batching))
    assert [run.batch_size for run in report.runs] == [1, 2, 4]
    assert {name for name, _ in report.runs[0].shapes} == {"INPUT", "START", "END", "READY", "CORRID"}
    assert report.quiet == ()


def test_states_are_fed_and_asked_for(tmp_path: Path) -> None:
    batching = SequenceBatching(states=(SUM,))
    report = warm_up(cpu_session(accumulate(), tmp_path), config(**SEQUENCES, sequence_batching=batching))
    assert [run.batch_size for run in report.runs] == [1, 4]
    assert (report.skipped, report.warnings) == ((), ())


def test_outputs_that_are_not_finite_are_named_by_batch_size(tmp_path: Path) -> None:
    """log(0) is minus infinity; an output of whole numbers is none of it."""
    built = model(
        [
            helper.make_node("Log", ["X"], ["LOG"]),
            helper.make_node("Identity", ["X"], ["SAME"]),
            helper.make_node("Shape", ["X"], ["SHAPE"]),
        ],
        [info("X", TensorProto.FLOAT, ["N", 2])],
        [
            info("LOG", TensorProto.FLOAT, ["N", 2]),
            info("SAME", TensorProto.FLOAT, ["N", 2]),
            info("SHAPE", TensorProto.INT64, [2]),
        ],
    )
    tensor = TensorConfig("X", DataType.FP32, (2,))
    report = warm_up(cpu_session(built, tmp_path), config(max_batch_size=2, inputs=(tensor,)))
    assert [(outcome.label, outcome.not_finite) for outcome in report.outcomes] == [
        ("zeros for X [1, 2]", ("LOG",)),
        ("zeros for X [2, 2]", ("LOG",)),
    ]
    assert len({outcome.sample for outcome in report.outcomes}) == 2


def test_the_bits_of_a_bfloat_tell_whether_it_is_finite() -> None:
    outputs = tuple(
        TensorConfig(name, kind, (1,)) for name, kind in (("B", DataType.BF16), ("U", DataType.UINT16))
    )
    for bits, names in ((0x7F80, ("B",)), (0xFFC1, ("B",)), (0x7F7F, ()), (0x3F80, ())):
        array = np.array([0, bits], np.uint16)
        assert not_finite({"B": array, "U": array}, config(outputs=outputs)) == names
