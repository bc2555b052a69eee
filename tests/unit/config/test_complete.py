"""Completion: what the graph adds, in the domain's fields and in the message of the ModelConfig RPC alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from google.protobuf import json_format

from naiad.config.complete import complete_model_config
from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.config.reader import check_loadable, parse_model_config, read_model_config
from naiad.config.vision_config import Layout
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INT32, FP32 = DataType.INT32, DataType.FP32
ADD_SUB_IN = [TensorSpec("INPUT0", INT32, (-1, 16)), TensorSpec("INPUT1", INT32, (-1, 16))]
ADD_SUB_OUT = [TensorSpec("OUTPUT0", INT32, (-1, 16)), TensorSpec("OUTPUT1", INT32, (-1, 16))]


def _shown(config: ModelConfig) -> dict[str, Any]:
    shown: dict[str, Any] = json_format.MessageToDict(config.message, preserving_proto_field_name=True)
    return shown


def test_a_model_without_a_config_becomes_what_triton_shows(model_folder: Callable[..., Path]) -> None:
    config = complete_model_config(read_model_config(model_folder(None)), ADD_SUB_IN, ADD_SUB_OUT)
    assert config.max_batch_size == 4
    assert config.dynamic_batching == DynamicBatching(preferred_batch_sizes=(4,))
    assert config.inputs == (TensorConfig("INPUT0", INT32, (16,)), TensorConfig("INPUT1", INT32, (16,)))
    io = [{"data_type": "TYPE_INT32", "dims": ["16"]}]
    assert _shown(config) == {
        "name": "model",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 4,
        "input": [{"name": name} | io[0] for name in ("INPUT0", "INPUT1")],
        "output": [{"name": name} | io[0] for name in ("OUTPUT0", "OUTPUT1")],
        "dynamic_batching": {"preferred_batch_size": [4]},
        "optimization": {"input_pinned_memory": {"enable": True}, "output_pinned_memory": {"enable": True}},
    }


def test_the_config_that_was_read_is_left_as_it_was(model_folder: Callable[..., Path]) -> None:
    """Each version of a model is completed from its own graph, so they must not share a message."""
    config = read_model_config(model_folder(None))
    before = config.message.SerializeToString(deterministic=True)
    complete_model_config(config, ADD_SUB_IN, ADD_SUB_OUT)
    assert config.message.SerializeToString(deterministic=True) == before
    assert config.inputs == ()


def test_the_default_batch_size_is_a_parameter(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder(None))
    completed = complete_model_config(config, ADD_SUB_IN, ADD_SUB_OUT, default_max_batch_size=32)
    assert (completed.max_batch_size, completed.dynamic_batching) == (32, DynamicBatching((32,)))


def test_without_auto_complete_nothing_is_filled_in(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder('backend: "onnxruntime"'), auto_complete=False)
    with pytest.raises(InvalidArgumentError, match="configuration expects 0 inputs, model provides 2"):
        complete_model_config(config, ADD_SUB_IN, ADD_SUB_OUT, auto_complete=False)


def test_a_complete_config_is_only_checked(model_folder: Callable[..., Path]) -> None:
    text = """max_batch_size: 8
    input { name: "INPUT0" data_type: TYPE_INT32 dims: 16 }
    input { name: "INPUT1" data_type: TYPE_INT32 dims: 16 }
    output [{ name: "OUTPUT0" data_type: TYPE_INT32 dims: 16 }]"""
    config = complete_model_config(read_model_config(model_folder(text)), ADD_SUB_IN, ADD_SUB_OUT)
    assert (config.max_batch_size, config.dynamic_batching) == (8, None)
    assert [tensor.name for tensor in config.outputs] == ["OUTPUT0"]


def test_a_batched_scalar_keeps_its_empty_reshape_in_the_message(model_folder: Callable[..., Path]) -> None:
    outputs = [TensorSpec("score", FP32, (-1,))]
    config = complete_model_config(read_model_config(model_folder(None)), ADD_SUB_IN, outputs)
    assert config.outputs == (TensorConfig("score", FP32, (1,), reshape=()),)
    assert _shown(config)["output"][0]["reshape"] == {}


def test_overridable_initializers_are_not_made_inputs(model_folder: Callable[..., Path]) -> None:
    specs = [*ADD_SUB_IN, TensorSpec("bias", INT32, (16,))]
    config = complete_model_config(
        read_model_config(model_folder(None)), specs, ADD_SUB_OUT, optional_inputs=["bias"]
    )
    assert [tensor.name for tensor in config.inputs] == ["INPUT0", "INPUT1"]
    assert config.max_batch_size == 4


def test_a_graph_dimension_of_zero_is_refused_as_dims(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder(None))
    with pytest.raises(InvalidArgumentError, match="model output 'y' dimension must be integer >= 1"):
        complete_model_config(config, ADD_SUB_IN, [TensorSpec("y", INT32, (0, 4))])


def test_warnings_of_reading_and_of_the_graph_add_up(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder("optimization { eager_batching: true }"))
    completed = complete_model_config(config, ADD_SUB_IN, [TensorSpec("y", INT32, None)])
    assert len(completed.warnings) == 2
    assert completed.warnings[0] == config.warnings[0]


VISION = """
input [ { name: "x" data_type: TYPE_FP32 %s dims: [ 3, -1, 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1, 128 ] } ]
parameters { key: "naiad.task" value: { string_value: "embed" } }
parameters { key: "naiad.input.size" value: { string_value: "3x112" } }
parameters { key: "naiad.embed.alignment" value: { string_value: "none" } }
"""


def test_the_inputs_format_settles_a_layout_that_dims_leave_open(model_folder: Callable[..., Path]) -> None:
    inputs, outputs = [TensorSpec("x", FP32, (3, -1, 3))], [TensorSpec("y", FP32, (1, 128))]
    with_format = read_model_config(model_folder(VISION % "format: FORMAT_NCHW"))
    vision = complete_model_config(with_format, inputs, outputs).vision
    assert vision is not None
    assert vision.input.layout is Layout.NCHW
    without = read_model_config(model_folder(VISION % "", name="other"))
    with pytest.raises(InvalidArgumentError, match=r"naiad\.input\.layout is missing"):
        complete_model_config(without, inputs, outputs)


_DATATYPES = {
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.FLOAT: DataType.FP32,
    onnx.TensorProto.FLOAT16: DataType.FP16,
    onnx.TensorProto.STRING: DataType.BYTES,
}


def _specs(infos: Any) -> list[TensorSpec]:
    return [
        TensorSpec(
            info.name,
            _DATATYPES[info.type.tensor_type.elem_type],
            tuple(
                dim.dim_value if dim.HasField("dim_value") else -1 for dim in info.type.tensor_type.shape.dim
            ),
        )
        for info in infos
    ]


@pytest.mark.assets
def test_refusals_and_completed_configs_equal_those_recorded_from_triton(assets: Path) -> None:
    """Every onnx model of the recorded repository: the same reason, or the same ModelConfig."""
    recorded = assets.parent / "triton" / "golden.json"
    if not recorded.is_file():
        pytest.skip("no recorded answers beside the assets")
    cases = json.loads(recorded.read_text())["cases"]
    configs = {
        case["request"]["name"]: case["response"]["config"]
        for case in cases
        if case["rpc"] == "ModelConfig" and case["code"] == "OK"
    }
    index = next(case for case in cases if case["name"] == "repository index in mode none")
    compared = 0
    for model in index["response"]["models"]:
        name, reason = model["name"], model.get("reason", "")
        if name in ("bad_gpu", "bad_nofile", "bad_onnx") or name.startswith("slow_"):
            continue  # the runtime's and the repository's to refuse; another backend's
        folder = recorded.parent / "golden_repository" / name
        if not model.get("version"):
            with pytest.raises(InvalidArgumentError):
                parse_model_config(folder)
            compared += 1
            continue
        graph = onnx.load(str(folder / model["version"] / "model.onnx")).graph
        config, refusal = _load(folder, graph)
        assert refusal == reason
        if config is not None and name in configs and name != "simple":  # recorded under an override
            assert _comparable(_shown(config)) == _comparable(configs[name])
        compared += 1
    assert compared > 15


def _load(folder: Path, graph: Any) -> tuple[ModelConfig | None, str]:
    """The completed config, or None and the reason as Triton's repository index spells it."""
    config = parse_model_config(folder)
    try:
        check_loadable(config)
        return complete_model_config(config, _specs(graph.input), _specs(graph.output)), ""
    except InvalidArgumentError as error:
        return None, f"Invalid argument: {error.message}"


def _comparable(shown: dict[str, Any]) -> dict[str, Any]:
    """Tensors in the order of their names, for Triton's is a hash map's; groups are the runtime's to fill."""
    ordered = {key: sorted(shown[key], key=lambda tensor: tensor["name"]) for key in ("input", "output")}
    return {key: value for key, value in (shown | ordered).items() if key != "instance_group"}
