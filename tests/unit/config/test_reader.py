"""Reading a model's folder: from `config.pbtxt`, or the lack of it, to the domain's config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.config.model_config import (
    Accelerator,
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    QueuePolicy,
    TensorConfig,
    VersionPolicy,
    VersionPolicyKind,
)
from naiad.config.reader import check_loadable, parse_model_config, read_model_config
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL = """
name: "model"
platform: "onnxruntime_onnx"
max_batch_size: 8
version_policy: { specific: { versions: [ 1, 3 ] } }
input [ { name: "x" data_type: TYPE_UINT8 format: FORMAT_NCHW dims: [ 3, -1, -1 ] optional: true } ]
output {
  name: "y" data_type: TYPE_STRING dims: [ 10 ] reshape { shape: [ 10, 1 ] }
}
instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] }, { name: "rest" kind: KIND_CPU } ]
default_model_filename: "net.onnx"
dynamic_batching {
  preferred_batch_size: [ 4 ]
  max_queue_delay_microseconds: 500
  default_queue_policy { max_queue_size: 20 }
}
optimization {
  graph { level: -1 }
  execution_accelerators {
    gpu_execution_accelerator : [ {
      name : "tensorrt" parameters { key: "precision_mode" value: "FP16" }
    } ]
    cpu_execution_accelerator : [ { name : "openvino" } ]
  }
}
parameters { key: "naiad.task" value: { string_value: "detect" } }
parameters { key: "execution_mode" value: { string_value: "1" } }
"""


def test_every_honoured_field_reaches_the_domain(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder(FULL))
    assert (config.name, config.max_batch_size, config.model_filename) == ("model", 8, "net.onnx")
    assert config.version_policy == VersionPolicy(VersionPolicyKind.SPECIFIC, versions=(1, 3))
    assert config.inputs == (TensorConfig("x", DataType.UINT8, (3, -1, -1), optional=True),)
    assert config.outputs == (TensorConfig("y", DataType.BYTES, (10,), (10, 1)),)
    assert config.instance_groups == (
        InstanceGroup("model_0", InstanceKind.GPU, 2, (0, 1)),
        InstanceGroup("rest", InstanceKind.CPU, 0),
    )
    assert config.dynamic_batching == DynamicBatching(
        (4,), 500, default_queue_policy=QueuePolicy(max_queue_size=20)
    )
    assert config.gpu_accelerators == (Accelerator("tensorrt", {"precision_mode": "FP16"}),)
    assert config.cpu_accelerators == (Accelerator("openvino"),)
    assert config.graph_level == -1
    assert config.parameters == {"execution_mode": "1", "naiad.task": "detect"}
    assert config.warnings == ()
    assert config.vision is None, "the vision settings need the completed input"


def test_a_model_without_a_config_gets_tritons_defaults(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder(None))
    assert (config.name, config.backend, config.platform) == ("model", "onnxruntime", "onnxruntime_onnx")
    assert config.version_policy == VersionPolicy(VersionPolicyKind.LATEST, 1)
    assert (config.inputs, config.instance_groups, config.dynamic_batching) == ((), (), None)
    assert config.graph_level is None


def test_without_auto_complete_a_config_is_required(model_folder: Callable[..., Path]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"config\.pbtxt: No such file"):
        read_model_config(model_folder(None), auto_complete=False)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("version_policy { all {} }", VersionPolicy(VersionPolicyKind.ALL)),
        ("version_policy { latest { num_versions: 3 } }", VersionPolicy(VersionPolicyKind.LATEST, 3)),
        ("version_policy { latest {} }", VersionPolicy(VersionPolicyKind.LATEST, 0)),
        ("version_policy {}", VersionPolicy(VersionPolicyKind.ALL)),
    ],
)
def test_version_policies_are_read_as_triton_reads_them(
    text: str, policy: VersionPolicy, model_folder: Callable[..., Path]
) -> None:
    assert read_model_config(model_folder(text)).version_policy == policy


def test_unhonoured_fields_and_keys_become_warnings(model_folder: Callable[..., Path]) -> None:
    text = 'optimization { eager_batching: true } parameters { key: "memory.x" value { string_value: "1" } }'
    warnings = read_model_config(model_folder(text)).warnings
    assert [sentence.partition(" is not honoured")[0] for sentence in warnings] == [
        "optimization.eager_batching",
        "parameters 'memory.x'",
    ]


def test_filled_in_defaults_are_no_reason_to_warn(model_folder: Callable[..., Path]) -> None:
    """The file's own words are judged, not what normalisation adds to them."""
    assert read_model_config(model_folder("max_batch_size: 4 dynamic_batching {}")).warnings == ()


@pytest.mark.parametrize(
    ("text", "error", "expected"),
    [
        ('backend: "nosuch"', InvalidArgumentError, "unable to find backend library for backend 'nosuch'"),
        (
            "sequence_batching { iterative_sequence: true }",
            UnsupportedError,
            "iterative_sequence is not supported",
        ),
        ("instance_group { kind: KIND_CPU gpus: 0 }", InvalidArgumentError, "group model_0 of model model"),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "x" } }',
            InvalidArgumentError,
            "'intra_op_thread_count' of model 'model' is 'x'",
        ),
    ],
)
def test_what_triton_finds_only_at_load_passes_the_first_stage(
    text: str, error: type[Exception], expected: str, model_folder: Callable[..., Path]
) -> None:
    """Triton hides errors of the first stage and shows those of the second: each must stay in its own."""
    folder = model_folder(text)
    config = parse_model_config(folder)
    with pytest.raises(error, match=expected):
        check_loadable(config)
    with pytest.raises(error, match=expected):
        read_model_config(folder)


@pytest.mark.assets
def test_tritons_own_examples_are_read_or_refused_for_what_they_are(assets: Path) -> None:
    examples = assets / "models" / "generic"
    for name in ("triton_simple", "triton_simple_int8", "triton_simple_string"):
        # The folder was renamed when it was copied here, so the name check is the one that must speak.
        with pytest.raises(
            InvalidArgumentError, match=f"unexpected directory name '{name}' for model 'simple"
        ):
            read_model_config(examples / name)
