"""The inspector: every way a model can be wrong, told with what to do; nothing left open; safe anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from onnx import TensorProto
from support.ensembles import ensemble_text
from support.onnx_models import add_sub, identity
from support.repositories import ADD_SUB_CONFIG, add_model

from naiad.lifecycle.inspection import Merging, Stage
from naiad.lifecycle.inspector import Inspector
from naiad.repository.layout import read_folder
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from naiad.lifecycle.inspection import Inspection, ModelReport, Problem, VersionPlan


def inspect(*roots: Path, auto_complete: bool = True, threads: int = 1) -> Inspection:
    inspector = Inspector(
        OrtEnvironment.detect(),
        CpuBudget(threads, "a test"),
        auto_complete=auto_complete,
        default_max_batch_size=4,
    )
    return inspector.inspect(roots)


def only(inspection: Inspection) -> ModelReport:
    (model,) = inspection.models
    return model


def problem(inspection: Inspection) -> Problem:
    """The problem of the only model, or of its only version."""
    model = only(inspection)
    found = model.problem or model.versions[0].problem
    assert found is not None
    assert not inspection.ok
    return found


def plan(inspection: Inspection) -> VersionPlan:
    found = only(inspection).versions[0].plan
    assert found is not None
    return found


DETECT = """
parameters { key: "naiad.task" value { string_value: "detect" } }
parameters { key: "naiad.head" value { string_value: "yunet" } }
"""

BROKEN = {
    "syntax": ("max_batch_size: eight", Stage.CONFIG, "correct {folder}/config.pbtxt"),
    "field": ("max_batchsize: 8", Stage.CONFIG, "did you mean max_batch_size?"),
    "name": ('name: "other"', Stage.CONFIG, 'write name: "m"'),
    "platform": ('platform: "onnx"', Stage.CONFIG, 'write platform: "onnxruntime_onnx"'),
    "backend": ('backend: "python"', Stage.CONFIG, "Naiad serves ONNX models only"),
    "refused": ("model_operations { op_library_filename: 'x.so' }", Stage.CONFIG, "remove that field"),
    "policy": ("version_policy { specific { versions: 5 } }", Stage.VERSIONS, "there are: 1;"),
    "filename": (
        'backend: "onnxruntime" default_model_filename: "a.onnx"',
        Stage.FILE,
        "rename one of the files",
    ),
    "accelerator": (
        'optimization { execution_accelerators { cpu_execution_accelerator { name: "magic" } } }',
        Stage.INSTANCES,
        "correct instance_group, optimization or parameters",
    ),
    "lanes": (
        'parameters { key: "naiad.gpu_lanes" value { string_value: "9" } }',
        Stage.INSTANCES,
        "correct instance_group, optimization or parameters",
    ),
    "buckets": (
        'parameters { key: "naiad.batch_buckets" value { string_value: "4,2" } }',
        Stage.FIT,
        "correct that parameter in {folder}/config.pbtxt, or remove it",
    ),
    "dims": (ADD_SUB_CONFIG.replace("dims: [ 16 ]", "dims: [ 8 ]"), Stage.FIT, "say what the graph has"),
    "parameter": ('parameters { key: "naiad.tusk" value { } }', Stage.FIT, "correct the naiad.… parameters"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_broken_config_names_its_stage_and_says_what_to_do(case: str, tmp_path: Path) -> None:
    config, stage, advice = BROKEN[case]
    folder = add_model(tmp_path, "m", add_sub(), config)
    found = problem(inspect(tmp_path))
    assert (found.stage, advice.format(folder=folder) in found.advice) == (stage, True), found


def test_a_head_that_cannot_read_the_outputs_is_a_problem_of_the_vision_parameters(tmp_path: Path) -> None:
    add_model(tmp_path, "m", identity(TensorProto.FLOAT, [1, 3, 32, 32]), DETECT)
    found = problem(inspect(tmp_path))
    assert found.stage is Stage.VISION
    assert "naiad.head 'yunet' needs an output" in found.reason
    assert "correct the naiad.… parameters" in found.advice


def test_a_fixed_batch_dimension_names_the_tensors_that_stop_batching(tmp_path: Path) -> None:
    add_model(tmp_path, "m", identity(TensorProto.FLOAT, [1, 4]), "max_batch_size: 8")
    found = problem(inspect(tmp_path))
    assert found.stage is Stage.FIT
    assert "set max_batch_size: 0" in found.advice
    assert "'INPUT0' [1,4], 'OUTPUT0' [1,4]" in found.advice


def test_an_engine_that_refuses_the_graph_is_told_from_a_config_that_does_not_fit(tmp_path: Path) -> None:
    broken = add_sub()
    broken.graph.node[0].op_type = "NoSuchOperator"
    add_model(tmp_path, "m", broken, ADD_SUB_CONFIG)
    assert problem(inspect(tmp_path)).stage is Stage.GRAPH


def test_a_model_without_version_folders_says_where_the_file_belongs(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.pbtxt").write_text(ADD_SUB_CONFIG)
    found = problem(inspect(tmp_path))
    assert found.stage is Stage.VERSIONS
    assert found.advice == f"put the ONNX file at {folder}/1/model.onnx"
    (folder / "v1").mkdir()
    assert "rename the ignored folders" in problem(inspect(tmp_path)).advice


def test_an_empty_version_folder_says_where_the_file_belongs(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    assert f"put the ONNX file at {tmp_path}/m/1/model.onnx" in problem(inspect(tmp_path)).advice
    (tmp_path / "m" / "config.pbtxt").write_text(ADD_SUB_CONFIG)
    found = problem(inspect(tmp_path))
    assert found.stage is Stage.FILE
    assert found.advice == f"put the ONNX file at {tmp_path}/m/1/model.onnx"


def test_one_broken_version_leaves_the_other_described(tmp_path: Path) -> None:
    config = f"{ADD_SUB_CONFIG} version_policy {{ all {{ }} }}"
    add_model(tmp_path, "m", {1: add_sub(), 2: b"junk"}, config)
    model = only(inspect(tmp_path))
    assert not model.ok
    assert [version.plan is not None for version in model.versions] == [True, False]


def test_versions_ignored_by_the_policy_and_missing_ones_are_listed(tmp_path: Path) -> None:
    config = f"{ADD_SUB_CONFIG} version_policy {{ specific {{ versions: [ 2, 7 ] }} }}"
    add_model(tmp_path, "m", {1: add_sub(), 2: add_sub()}, config)
    model = only(inspect(tmp_path))
    assert model.ok
    assert model.versions_found == (1, 2)
    assert [version.version for version in model.versions] == [2]
    assert model.versions_missing == (7,)
    assert model.version_policy == "specific 2, 7"


def test_an_output_that_the_config_leaves_out_is_named(tmp_path: Path) -> None:
    config = ADD_SUB_CONFIG.replace('{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },\n', "")
    add_model(tmp_path, "m", add_sub(), config)
    assert plan(inspect(tmp_path)).unserved_outputs == ("OUTPUT0",)


def test_what_was_taken_from_the_graph_is_named(tmp_path: Path) -> None:
    add_model(tmp_path, "m", add_sub(), "max_batch_size: 2")
    found = plan(inspect(tmp_path))
    assert found.completed == ("input", "output", "dynamic_batching")
    assert found.batching.merging is Merging.DYNAMIC


def test_no_session_and_no_thread_outlives_the_inspection(tmp_path: Path) -> None:
    """Each session of 16 threads would leave 15 behind, whether the config fits the graph or not.

    Fewer than that are others': threads of libraries that earlier tests of this process have used.
    """
    config = f"{ADD_SUB_CONFIG} instance_group {{ count: 1 kind: KIND_CPU }}"
    add_model(tmp_path, "fits", {number: add_sub() for number in range(1, 4)}, config)
    add_model(tmp_path, "unfit", add_sub(), config.replace("dims: [ 16 ]", "dims: [ 8 ]"))
    inspect(tmp_path, threads=1)  # whatever the engine keeps for the process exists from here on
    before = _threads()
    report = inspect(tmp_path, threads=16)
    assert report.models[0].ok
    assert report.models[0].versions[0].plan is not None
    assert report.models[0].versions[0].plan.instances.intra_op_threads == 16
    assert _threads() < before + 15


def test_progress_names_each_model_before_it_is_looked_at(tmp_path: Path) -> None:
    for name in ("b", "a"):
        add_model(tmp_path, name, add_sub())
    seen: list[tuple[str, int, int]] = []
    inspector = Inspector(
        OrtEnvironment.detect(), CpuBudget(1, "a test"), auto_complete=True, default_max_batch_size=4
    )
    inspector.inspect([tmp_path], on_model=lambda *step: seen.append(step))
    assert seen == [("a", 0, 2), ("b", 1, 2)]


def test_an_unexpected_error_is_the_projects_fault_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(tmp_path, "m", add_sub())

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("naiad.lifecycle.inspector.inspect_version", fail)
    found = problem(inspect(tmp_path))
    assert found.stage is Stage.INTERNAL
    assert found.reason == "ZeroDivisionError: surprise"


def test_roots_that_cannot_be_listed_are_reported_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    roots = [tmp_path / "absent", tmp_path / "file", tmp_path / "loop", tmp_path / ("n" * 5_000)]
    report = inspect(*roots)
    assert [entry.path for entry in report.repositories] == [str(root) for root in roots]
    assert all(entry.problem for entry in report.repositories)
    assert not report.ok


def test_an_empty_repository_is_fine_and_said_to_be_empty(tmp_path: Path) -> None:
    report = inspect(tmp_path)
    assert report.ok
    assert report.repositories[0].notes == (
        "there is no model in it: a model is a folder, NAME/1/model.onnx",
    )


def test_a_loose_onnx_file_is_told_how_to_become_a_model(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(add_sub().SerializeToString())
    assert inspect(tmp_path).repositories[0].notes == (
        "ignored file net.onnx: a model is a folder, net/1/model.onnx",
    )


def test_the_folder_of_a_model_in_place_of_a_repository_is_noticed(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "m", add_sub(), ADD_SUB_CONFIG)
    assert str(tmp_path) in inspect(folder).repositories[0].notes[0]


def test_a_name_in_two_repositories_names_both_folders(tmp_path: Path) -> None:
    folders = [add_model(tmp_path / root, "m", add_sub()) for root in ("x", "y")]
    report = inspect(tmp_path / "x", tmp_path / "y")
    assert problem(report).stage is Stage.REPOSITORY
    assert all(str(folder) in problem(report).advice for folder in folders)
    assert [entry.models for entry in report.repositories] == [1, 1]
    assert [entry.notes for entry in report.repositories] == [(), ()]


def test_a_name_that_is_not_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff")).mkdir()
    assert problem(inspect(tmp_path)).advice == "rename the folder"


def test_a_config_that_is_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "m", add_sub())
    os.mkfifo(folder / "config.pbtxt")
    assert "it is not a file" in problem(inspect(tmp_path)).reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_model_folder_that_may_not_be_listed_is_reported(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "m", add_sub())
    folder.chmod(0)
    try:
        found = problem(inspect(tmp_path))
    finally:
        folder.chmod(0o700)
    assert found.stage is Stage.REPOSITORY
    assert found.advice == f"let the server list {folder}"


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def add_ensemble(root: Path, name: str, *models: str, version: int = -1) -> None:
    """A chain of models; those called e… are ensembles themselves."""
    tensors = ["x", *(f"t{index}" for index in range(1, len(models))), "y"]
    steps = [
        (
            model,
            {"x" if model.startswith("e") else "INPUT0": tensors[index]},
            {"y" if model.startswith("e") else "OUTPUT0": tensors[index + 1]},
        )
        for index, model in enumerate(models)
    ]
    (root / name / "1").mkdir(parents=True)
    text = ensemble_text(*steps, reads=["x"], writes=["y"], version=version)
    (root / name / "config.pbtxt").write_text(text)


def test_an_ensemble_is_told_with_its_steps_wherever_it_lies_in_the_alphabet(tmp_path: Path) -> None:
    for name in ("a", "z"):
        add_model(tmp_path, name, identity(TensorProto.FLOAT, ["N", 4]), "max_batch_size: 8")
    add_ensemble(tmp_path, "e_inner", "a", "z")
    add_ensemble(tmp_path, "e_outer", "e_inner", "z", version=1)
    inspection = inspect(tmp_path)
    assert inspection.ok
    assert [model.name for model in inspection.models] == ["a", "e_inner", "e_outer", "z"]
    plan = inspection.models[2].versions[0].plan
    assert plan is not None
    assert plan.batching.merging is Merging.ENSEMBLE
    assert plan.batching.explanation == (
        "a request runs through 'e_inner' version 1, then 'z' version 1; each step is batched as its model says"
    )
    assert [(tensor.name, tensor.shape) for tensor in plan.inputs] == [("x", (-1, 4))]


def test_a_lone_look_at_an_ensemble_finds_its_models_beside_it(tmp_path: Path) -> None:
    add_model(tmp_path, "a", identity(TensorProto.FLOAT, ["N", 4]), "max_batch_size: 8")
    add_ensemble(tmp_path, "e", "a")
    inspector = Inspector(
        OrtEnvironment.detect(), CpuBudget(1, "a test"), auto_complete=True, default_max_batch_size=4
    )
    assert inspector.inspect_model(read_folder(tmp_path / "e")).ok


@pytest.mark.parametrize(
    ("models", "version", "reason", "advice"),
    [
        (
            ("nosuch",),
            -1,
            "ensemble e contains models that are not available or ambiguous: nosuch",
            "put these",
        ),
        (
            ("a",),
            0,
            "ensemble 'e' depends on 'a' whose required version 0 is not loaded.",
            "model_version: -1",
        ),
        (("broken",), -1, "ensemble 'e' depends on 'broken' which has no loaded version.", "mend that model"),
        (
            ("small",),
            -1,
            "ensemble e allows maximum batch size 8, but it contains model small",
            "correct ens",
        ),
        (
            ("e",),
            -1,
            "circular dependency between ensembles: e -> ... -> e -> e",
            "correct ensemble_scheduling",
        ),
    ],
)
def test_what_keeps_an_ensemble_from_serving_is_told_with_what_to_do(
    tmp_path: Path, models: tuple[str, ...], version: int, reason: str, advice: str
) -> None:
    add_model(tmp_path, "a", identity(TensorProto.FLOAT, ["N", 4]), "max_batch_size: 8")
    add_model(tmp_path, "small", identity(TensorProto.FLOAT, ["N", 4]), "max_batch_size: 2")
    add_model(tmp_path, "broken", b"not a model", "max_batch_size: 8")
    add_ensemble(tmp_path, "e", *models, version=version)
    if models == ("e",):
        (tmp_path / "e" / "config.pbtxt").write_text(
            ensemble_text(("e", {"x": "x"}, {"y": "y"}), reads=["x"], writes=["y"])
        )
    found = next(model for model in inspect(tmp_path).models if model.name == "e").versions[0].problem
    assert found is not None
    assert found.stage is Stage.ENSEMBLE
    assert found.reason.startswith(reason)
    assert advice in found.advice


def test_ensembles_that_are_nested_too_deep_are_told_as_the_server_tells_them(tmp_path: Path) -> None:
    add_model(tmp_path, "a", identity(TensorProto.FLOAT, ["N", 4]), "max_batch_size: 8")
    for number in range(33):
        add_ensemble(tmp_path, f"e{number:02}", f"e{number + 1:02}" if number < 32 else "a")
    models = {model.name: model for model in inspect(tmp_path).models}
    problem = models.pop("e00").versions[0].problem
    assert problem is not None
    assert problem.reason == "ensemble 'e00' has ensembles nested 33 deep, at most 32 are served"
    assert all(model.ok for model in models.values())
