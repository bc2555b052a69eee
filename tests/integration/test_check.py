"""`naiad check` and a server say the same of every model: each broken one, looked at both ways."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from onnx import TensorProto, helper
from support.ensembles import ensemble_text
from support.golden import make_repository
from support.onnx_models import add_sub, identity, info, model
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import server

from naiad.lifecycle.inspector import Inspector
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import read_cpu_budget

if TYPE_CHECKING:
    from naiad.lifecycle.inspection import ModelReport
    from naiad.lifecycle.registry import Model

CONTRACT = Path(os.environ.get("NAIAD_TRITON_CONTRACT", Path(__file__).parents[3] / "shared" / "triton"))

SAMPLE = """
model_warmup {{ name: "w" batch_size: {batch}
  inputs {{ key: "INPUT0" value {{ data_type: TYPE_INT32 dims: [ {dims} ] {data} }} }}
  inputs {{ key: "{second}" value {{ data_type: TYPE_INT32 dims: [ {dims} ] zero_data: true }} }} }}
"""
DETECT = """
parameters { key: "naiad.task" value { string_value: "detect" } }
parameters { key: "naiad.head" value { string_value: "yunet" } }
"""


def labelled(filename: str) -> str:
    output = 'name: "OUTPUT0"'
    return ADD_SUB_CONFIG.replace(output, f'{output} label_filename: "{filename}"')


def sample(*, batch: int = 1, dims: int = 16, data: str = "zero_data: true", second: str = "INPUT1") -> str:
    return ADD_SUB_CONFIG + SAMPLE.format(batch=batch, dims=dims, data=data, second=second)


BROKEN_CONFIGS = {
    "syntax": "max_batch_size: eight",
    "field": "max_batchsize: 8",
    "name": 'name: "other"',
    "platform": 'platform: "onnx"',
    "backend": 'backend: "python"',
    "refused": "model_operations { op_library_filename: 'x.so' }",
    "policy": "version_policy { specific { versions: 5 } }",
    "filename": 'backend: "onnxruntime" default_model_filename: "a.onnx"',
    "leaves": 'backend: "onnxruntime" default_model_filename: "../model.onnx"',
    "accelerator": 'optimization { execution_accelerators { cpu_execution_accelerator { name: "magic" } } }',
    "dims": ADD_SUB_CONFIG.replace("dims: [ 16 ]", "dims: [ 8 ]"),
    "datatype": ADD_SUB_CONFIG.replace("TYPE_INT32", "TYPE_FP32"),
    "tensor": ADD_SUB_CONFIG.replace("INPUT1", "INPUT7"),
    "parameter": 'parameters { key: "naiad.tusk" value { } }',
    "head": DETECT,
    "threads": 'parameters { key: "intra_op_thread_count" value { string_value: "many" } }',
    "gpu": ADD_SUB_CONFIG + "instance_group { kind: KIND_GPU }",
    "gpu_and_file": 'platform: "onnxruntime_onnx" instance_group { kind: KIND_GPU } default_model_filename: "a.onnx"',
    "labels": labelled("labels.txt"),
    "labels_outside": labelled("../labels.txt"),
    "labels_folder": labelled("1"),
    "sample_batch": sample(batch=99),
    "sample_dims": sample(dims=3),
    "sample_name": sample(second="INPUT9"),
    "sample_file": sample(data='input_data_file: "absent"'),
    "state": ADD_SUB_CONFIG
    + 'sequence_batching { state { input_name: "INPUT7" output_name: "OUTPUT7" data_type: TYPE_INT32 dims: 1 } }',
    "preferred": ADD_SUB_CONFIG + "dynamic_batching { preferred_batch_size: [ 99 ] }",
}
"""Configs of an `add_sub` that are wrong, each in its own way."""


def write_broken(root: Path) -> None:
    """One broken model of each kind, and sound ones between them."""
    for name, config in BROKEN_CONFIGS.items():
        add_model(root, name, add_sub(), config)
    add_model(root, "sound", add_sub(), ADD_SUB_CONFIG)
    folder = add_model(root, "sound_labels", add_sub(), labelled("labels.txt"))
    (folder / "labels.txt").write_text("a\nb\n")
    add_model(root, "sound_sample", add_sub(), sample())
    add_model(root, "junk", b"no graph")
    add_model(root, "fixed", identity(TensorProto.FLOAT, [1, 4]), "max_batch_size: 8")
    unknown = add_sub()
    unknown.graph.node[0].op_type = "NoSuchOperator"
    add_model(root, "operator", unknown)
    add_model(root, "half", {1: add_sub(), 2: b"no graph"}, ADD_SUB_CONFIG + "version_policy { all { } }")
    # The sample's zero stands for the table's first row, of none.
    table = helper.make_tensor("table", TensorProto.FLOAT, [0], [])
    gather = model(
        [helper.make_node("Gather", ["table", "INPUT0"], ["OUTPUT0"])],
        [info("INPUT0", TensorProto.INT64, ["N", 1])],
        [info("OUTPUT0", TensorProto.FLOAT, ["N", 1])],
        [table],
    )
    zero = 'key: "INPUT0" value { data_type: TYPE_INT64 dims: [ 1 ] zero_data: true }'
    add_model(root, "sample_run", gather, f'model_warmup {{ name: "w" batch_size: 1 inputs {{ {zero} }} }}')
    (root / "empty").mkdir()
    (root / "no_file" / "1").mkdir(parents=True)
    (root / "no_file" / "config.pbtxt").write_text(ADD_SUB_CONFIG)
    for name, step in (("ensemble", "labels"), ("ensemble_of_none", "nosuch")):
        (root / name / "1").mkdir(parents=True)
        text = ensemble_text((step, {"INPUT0": "x"}, {"OUTPUT0": "y"}), reads=["x"], writes=["y"])
        (root / name / "config.pbtxt").write_text(text)


def loaded(model: Model) -> set[str]:
    """Why a server does not serve what the model's version policy selects; empty if it serves all."""
    reasons = [model.problem, *(entry.reason for entry in model.versions.values())]
    return {reason if isinstance(reason, str) else reason.message for reason in reasons if reason}


def checked(model: ModelReport) -> set[str]:
    problems = [model.problem, *(version.problem for version in model.versions)]
    return {problem.reason for problem in problems if problem}


async def both(root: Path) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What keeps each model from serving: as a server found out, and as `naiad check` did."""
    async with server(root, exit_on_error=False) as running:
        at_load = {model.name: loaded(model) for model in running.manager.models()}
    inspector = Inspector(
        OrtEnvironment.detect(), read_cpu_budget(None), auto_complete=True, default_max_batch_size=4
    )
    return at_load, {model.name: checked(model) for model in inspector.inspect([root]).models}


async def test_every_kind_of_broken_model_is_refused_both_ways_for_the_same_reason(tmp_path: Path) -> None:
    write_broken(tmp_path)
    at_load, at_check = await both(tmp_path)
    at_load["half"].discard("unloaded")  # version 1 is sound, and goes with the other
    # A server names the version and the kind of error of an ensemble's model before the same reason.
    told = {
        name: told.pop().partition(" with error: ")
        for name, told in (("load", at_load.pop("ensemble")), ("check", at_check.pop("ensemble")))
    }
    assert told["load"][0] == told["check"][0]
    assert told["load"][2].rstrip(";\n").endswith(told["check"][2])
    assert at_check == at_load
    sound = {name for name, reasons in at_check.items() if not reasons}
    assert sound == {"sound", "sound_labels", "sound_sample"}


async def test_the_recorded_repository_of_a_triton_is_judged_alike_both_ways(tmp_path: Path) -> None:
    if not (CONTRACT / "golden_repository").is_dir():
        pytest.skip("no recording of a Triton (set NAIAD_TRITON_CONTRACT)")
    make_repository(CONTRACT / "golden_repository", tmp_path / "models")
    at_load, at_check = await both(tmp_path / "models")
    assert at_check == at_load
    assert {name for name, reasons in at_check.items() if reasons} == {
        name for name in at_check if name.startswith("bad_")
    }
