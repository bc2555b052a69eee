"""`naiad check` as its user meets it: exit code, text for a pipe, JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from onnx import TensorProto
from support.onnx_models import add_sub, identity, weights_as_inputs
from support.repositories import ADD_SUB_CONFIG, add_model
from typer.testing import CliRunner, Result

from naiad.cli.main import app
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

EMBED_CONFIG = """
max_batch_size: 2
parameters { key: "naiad.task" value { string_value: "embed" } }
parameters { key: "naiad.input.size" value { string_value: "8x8" } }
parameters { key: "naiad.embed.alignment" value { string_value: "none" } }
"""


def check(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def report(*arguments: object) -> dict[str, Any]:
    """The report for programs; the exit code must agree with its `ok`."""
    result = check(*arguments, "--format", "json")
    content: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if content["ok"] else 1)
    return content


def lines(result: Result) -> list[str]:
    """The lines of the text with each run of blanks as one."""
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_a_sound_repository_exits_0_and_says_what_each_model_will_be(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    result = check(tmp_path, "--cpu-threads", 2)
    text = lines(result)
    assert result.exit_code == 0
    assert "simple: ok" in text
    assert "inputs INPUT0 INT32 [batch, 16]" in text
    assert "instances 2 on the CPU, sharing one session; threads of a session: 1 within an operator" in text
    assert "runs on CPUExecutionProvider" in text
    assert text[-1] == "1 model: 1 ok, 0 broken"


def test_an_engine_of_the_environment_is_ignored_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of models that it runs would not hold."""
    assert "NAIAD_ENGINE" not in check(tmp_path).stderr
    monkeypatch.setenv("NAIAD_ENGINE", "triton://localhost:8001")
    result = check(tmp_path)
    assert "NAIAD_ENGINE is set and ignored" in result.stderr
    assert result.exit_code == 0


def test_a_broken_model_exits_1_with_reason_and_advice_and_the_others_are_still_checked(
    tmp_path: Path,
) -> None:
    add_model(tmp_path, "a_broken", b"not a model", ADD_SUB_CONFIG)
    add_model(tmp_path, "b_sound", add_sub(), ADD_SUB_CONFIG)
    result = check(tmp_path)
    assert result.exit_code == 1
    assert "a_broken: BROKEN" in lines(result)
    assert "b_sound: ok" in lines(result)
    assert "Protobuf parsing failed" in result.stdout
    assert f"what to do  copy or export {tmp_path}/a_broken/1/model.onnx again" in result.stdout
    assert lines(result)[-1] == "2 models: 1 ok, 1 broken (a_broken)"


def test_piped_text_is_neither_wrapped_nor_coloured(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    result = check(tmp_path)
    assert "\x1b" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) > 120


def test_no_progress_is_drawn_where_there_is_no_terminal(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    assert check(tmp_path).stderr == ""


def test_json_keys_are_stable(tmp_path: Path) -> None:
    """Programs read these names: this test fails when one is renamed or removed."""
    add_model(tmp_path, "embedder", identity(TensorProto.FLOAT, ["N", 3, 8, 8]), EMBED_CONFIG)
    content = report(tmp_path)
    model = content["models"][0]
    version = model["versions"][0]
    plan = version["plan"]
    keys = {name: set(value) for name, value in (("top", content), ("model", model), ("version", version))}
    assert keys == {
        "top": {"format", "ok", "engine", "repositories", "models"},
        "model": {
            *("name", "ok", "path", "config_file", "version_policy", "versions_found"),
            *("versions_missing", "versions", "warnings", "notes", "problem", "experiment"),
        },
        "version": {"version", "file", "plan", "problem", "graph_inputs", "graph_outputs"},
    }
    assert set(plan) == {
        *("inputs", "outputs", "completed", "unserved_outputs", "batching", "instances", "scheduling"),
        *("execution_providers", "fallbacks", "vision", "warnings", "notes", "batch_buckets"),
        "proposals",
    }
    assert plan["inputs"] == [
        {
            "name": "INPUT0",
            "datatype": "FP32",
            "shape": [-1, 3, 8, 8],
            "graph_shape": [-1, 3, 8, 8],
            "optional": False,
        }
    ]
    assert set(plan["batching"]) == {
        *("merging", "max_batch_size", "preferred_batch_sizes", "max_queue_delay_us"),
        *("max_queue_size", "fixed_tensors", "explanation"),
    }
    assert set(plan["instances"]) == {
        *("groups", "count", "intra_op_threads", "inter_op_threads", "active", "placement", "layout"),
    }
    assert set(plan["vision"]) == {"task", "input", "detect", "embed", "accepts_encoded"}
    assert plan["vision"]["task"] == "embed"
    assert content["format"] == 1


def test_json_of_a_broken_version_names_stage_reason_and_advice(tmp_path: Path) -> None:
    add_model(tmp_path, "m", add_sub(), ADD_SUB_CONFIG.replace("dims: [ 16 ]", "dims: [ 8 ]"))
    version = report(tmp_path)["models"][0]["versions"][0]
    assert version["plan"] is None
    assert version["problem"].keys() == {"stage", "reason", "advice"}
    assert version["problem"]["stage"] == "fit"
    assert version["graph_inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}


def test_a_model_without_config_is_completed_unless_that_is_switched_off(tmp_path: Path) -> None:
    add_model(tmp_path, "m", add_sub())
    plan = report(tmp_path, "--default-max-batch-size", 7)["models"][0]["versions"][0]["plan"]
    assert plan["completed"] == ["max_batch_size", "input", "output", "dynamic_batching"]
    assert plan["batching"]["max_batch_size"] == 7
    refused = report(tmp_path, "--disable-auto-complete-config", "true")["models"][0]
    assert refused["problem"]["stage"] == "config"
    assert "--disable-auto-complete-config" in refused["problem"]["advice"]


def test_a_missing_file_of_labels_breaks_a_model_as_it_does_in_a_server(tmp_path: Path) -> None:
    config = ADD_SUB_CONFIG.replace('name: "OUTPUT0"', 'name: "OUTPUT0" label_filename: "labels.txt"')
    folder = add_model(tmp_path, "m", add_sub(), config)
    problem = report(tmp_path)["models"][0]["versions"][0]["problem"]
    assert problem["stage"] == "labels"
    assert "label_filename of model 'm' is 'labels.txt': there is no such file" in problem["reason"]
    assert f"put that file, one class name a line, into {folder}" in problem["advice"]
    (folder / "labels.txt").write_text("a")
    assert report(tmp_path)["ok"]


def test_the_name_of_a_config_variant_is_taken_from_flag_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add_model(tmp_path, "m", add_sub(), ADD_SUB_CONFIG)
    (folder / "configs").mkdir()
    (folder / "configs" / "small.pbtxt").write_text(ADD_SUB_CONFIG.replace("size: 8", "size: 2"))
    (folder / "configs" / "bad.pbtxt").write_text("max_batch_size: two")

    def sizes(*flags: str) -> int:
        size: int = report(tmp_path, *flags)["models"][0]["versions"][0]["plan"]["batching"]["max_batch_size"]
        return size

    assert sizes() == 8
    assert sizes("--model-config-name=small") == 2
    assert sizes("--model-config-name=absent") == 8
    assert "config configs/small.pbtxt" in lines(check(tmp_path, "--model-config-name=small"))
    monkeypatch.setenv("NAIAD_MODEL_CONFIG_NAME", "bad")
    problem = report(tmp_path)["models"][0]["problem"]
    assert problem["advice"] == f"correct {folder}/configs/bad.pbtxt"
    assert sizes("--model-config-name=small") == 2


def test_the_help_shows_each_flag_and_variable_whole() -> None:
    result = CliRunner().invoke(app, ["check", "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0
    words = result.stdout.replace(")", " ").split()
    for name in (
        "model-config-name",
        "disable-auto-complete-config",
        "default-max-batch-size",
        "cpu-threads",
    ):
        assert f"--{name}" in words
        assert f"NAIAD_{name.upper().replace('-', '_')}" in words


def test_a_repository_at_the_wrong_level_is_told_where_the_models_are(tmp_path: Path) -> None:
    """Nothing is broken, so that the exit code is 0; the text says that nothing would be served."""
    add_model(tmp_path / "golden", "m", add_sub(), ADD_SUB_CONFIG)
    result = check(tmp_path / "golden" / "m" / "1")
    assert result.exit_code == 0
    assert f"the model repository is two folders above, {tmp_path}/golden" in result.stdout
    assert lines(result)[-1] == "0 models: nothing is broken, and nothing would be served"
    assert f"the model repository is {tmp_path}/golden" in check(tmp_path).stdout


def test_settings_come_from_the_environment_too_and_a_flag_beats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(tmp_path, "m", add_sub())
    monkeypatch.setenv("NAIAD_CPU_THREADS", "3")
    monkeypatch.setenv("NAIAD_GRPC_PORT", "not a port, and of no concern here")
    assert report(tmp_path)["engine"]["cpu_threads"] == 3
    assert report(tmp_path, "--cpu-threads", 1)["engine"]["cpu_threads"] == 1


def test_a_bad_option_is_refused_with_its_name(tmp_path: Path) -> None:
    result = check(tmp_path, "--cpu-threads", "many")
    assert isinstance(result.exception, InvalidArgumentError)
    assert "--cpu-threads=many" in result.exception.message


def test_a_missing_folder_is_reported_beside_the_others(tmp_path: Path) -> None:
    add_model(tmp_path / "there", "m", add_sub())
    result = check(tmp_path / "absent", tmp_path / "there")
    assert result.exit_code == 1
    assert f"repository {tmp_path}/absent: BROKEN" in result.stdout
    assert "m: ok" in lines(result)


def test_load_time_hygiene_is_told(tmp_path: Path) -> None:
    add_model(tmp_path, "m", weights_as_inputs())
    assert "note took 1 initializers off the graph inputs so that constants fold" in lines(check(tmp_path))


def test_fields_that_are_not_honoured_and_folders_that_are_ignored_are_named(tmp_path: Path) -> None:
    config = f"{ADD_SUB_CONFIG} optimization {{ eager_batching: true }}"
    folder = add_model(tmp_path, "m", add_sub(), config)
    (folder / "01").mkdir()
    result = check(tmp_path)
    assert result.exit_code == 0
    assert "not honoured  optimization.eager_batching" in result.stdout
    assert "ignored folder '01' of model 'm': its name has leading zeros" in result.stdout


@pytest.mark.assets
def test_a_detector_of_the_assets_is_described_with_its_head(tmp_path: Path, assets: Path) -> None:
    config = """
    parameters { key: "naiad.task" value { string_value: "detect" } }
    parameters { key: "naiad.head" value { string_value: "yunet" } }
    """
    add_model(tmp_path, "yunet", (assets / "models" / "yunet_n_320_320.onnx").read_bytes(), config)
    result = check(tmp_path)
    assert result.exit_code == 0
    assert "vision detect with head yunet: score ≥ 0.5, NMS IoU 0.45, at most 1000 faces" in lines(result)
    assert (
        "Each request runs alone: the graph's first dimension is fixed or absent in 'input'" in result.stdout
    )


def test_where_the_layout_comes_from_is_told_and_nothing_is_measured(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    (told,) = (line for line in lines(check(tmp_path, "--cpu-threads", 2)) if line.startswith("layout"))
    assert told.startswith("layout rule: one instance a CPU thread; a server measures others at load")
    off = lines(check(tmp_path, "--cpu-threads", 2, "--measure-layout", "false"))
    assert "layout rule: one instance a CPU thread" in off
