"""`naiad check` on models without `naiad.` parameters: a line that says what they may be, text for their configs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from onnx import TensorProto, helper
from support.onnx_models import add_sub, info, model
from support.proposals import adopt_proposals, proposed, row_embedder
from support.repositories import add_model
from support.vision_models import DETECTOR_CONFIG, brightness_detector
from typer.testing import CliRunner

from naiad.cli.check_write import ProposalTarget
from naiad.cli.main import app
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.inspector import Inspector
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import read_cpu_budget

if TYPE_CHECKING:
    from pathlib import Path

    import onnx


def check(*arguments: object) -> str:
    return CliRunner().invoke(app, ["check", *map(str, arguments)]).stdout


def run(*arguments: object) -> Any:
    """The command's result; what it raises is raised."""
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def boxes_alone() -> onnx.ModelProto:
    """300 rows of six zeros, whatever the picture."""
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["rows"])]
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [1, 300, 6])
    image = info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    return model(nodes, [image], [info("rows", TensorProto.FLOAT, [1, 300, 6])], [shape])


def test_the_report_has_a_line_for_what_a_model_may_be_and_says_how_to_go_on(tmp_path: Path) -> None:
    add_model(tmp_path, "detector", brightness_detector())
    text = [" ".join(line.split()) for line in check(tmp_path).splitlines()]
    assert "could be mtcnn (sure): outputs boxes [1, 4], scores [1], landmarks [1, 5, 2], count [1]" in text
    assert "the parameters for its config: naiad check --propose" in text


def test_a_model_that_is_declared_already_or_resembles_nothing_has_no_such_line(tmp_path: Path) -> None:
    add_model(tmp_path, "declared", brightness_detector(), DETECTOR_CONFIG)
    add_model(tmp_path, "sums", add_sub())
    assert "could be" not in check(tmp_path)
    assert proposed(tmp_path) == "# no model without naiad. parameters resembles a known family\n"


def test_what_is_proposed_can_be_appended_to_a_config_as_it_is(tmp_path: Path) -> None:
    config = DETECTOR_CONFIG.partition("parameters")[0]
    folder = add_model(tmp_path, "detector", brightness_detector(), config)
    with (folder / "config.pbtxt").open("a") as file:
        file.write(proposed(tmp_path))
    assert "detect with head mtcnn" in check(tmp_path)


def test_each_of_several_models_gets_its_own_block(tmp_path: Path) -> None:
    add_model(tmp_path, "detector", brightness_detector())
    add_model(tmp_path, "embedder", row_embedder())
    add_model(tmp_path, "sums", add_sub())
    assert list(adopt_proposals(tmp_path)) == ["detector", "embedder"]
    text = check(tmp_path)
    assert "detect with head mtcnn" in text
    assert "embed: alignment arcface, vector 'embedding' of length 1" in text


def test_versions_that_are_alike_share_a_block(tmp_path: Path) -> None:
    versions = {1: brightness_detector(), 2: brightness_detector()}
    add_model(tmp_path, "detector", versions, "version_policy { all { } }")
    assert proposed(tmp_path).count("naiad.task") == 1


def test_what_is_a_mere_possibility_is_commented_out(tmp_path: Path) -> None:
    """Rows of six numbers may be much else: the file is a config all the same."""
    add_model(tmp_path, "rows", boxes_alone())
    lines = proposed(tmp_path).splitlines()
    assert lines[0].startswith("# rows: boxes (possible), read from output rows [1, 300, 6]")
    assert all(line.startswith("# ") for line in lines)


def test_programs_get_the_proposals_too(tmp_path: Path) -> None:
    add_model(tmp_path, "detector", brightness_detector())
    report = json.loads(check(tmp_path, "--format", "json", "--propose"))
    (proposal,) = report["models"][0]["versions"][0]["plan"]["proposals"]
    assert (proposal["family"], proposal["certainty"]) == ("mtcnn", "sure")
    assert ["naiad.head", "mtcnn"] in proposal["parameters"]
    assert proposal["config"] in proposed(tmp_path)
    assert proposal["evidence"]
    assert proposal["notes"]


def test_one_of_several_models_can_be_chosen(tmp_path: Path) -> None:
    """Then the exit code is about that one alone."""
    add_model(tmp_path, "detector", brightness_detector())
    add_model(tmp_path, "embedder", row_embedder())
    add_model(tmp_path, "broken", {1: brightness_detector()}, "max_batch_size: ?")
    result = run(tmp_path, "--propose", "--model=embedder")
    assert (result.exit_code, result.stdout.count("naiad.task")) == (0, 1)
    assert result.stdout.startswith("# embedder: ")
    with pytest.raises(
        InvalidArgumentError, match="=none is no model of these repositories: broken, detector, emb"
    ):
        run(tmp_path, "--propose", "--model=none")


@pytest.mark.parametrize("config", [None, "max_batch_size: 0", "# mine\n"])
def test_what_is_proposed_is_appended_and_shown_as_a_diff(tmp_path: Path, config: str | None) -> None:
    """What was there stays, byte by byte; applied to it, the diff gives what is there now."""
    add_model(tmp_path, "embedder", row_embedder())
    folder = add_model(tmp_path, "detector", brightness_detector())
    path = folder / "config.pbtxt"
    if config is not None:
        path.write_text(config)
    block = run(tmp_path, "--propose", "--model=detector").stdout
    result = run(tmp_path, "--propose", "--model=detector", "--write")
    assert result.exit_code == 0
    before = config or ""
    assert path.read_text() == before + "\n" * (not before.endswith("\n") and bool(before)) + block
    assert [line for line in result.stdout.splitlines() if line.startswith("---")] == [
        f"--- {'/dev/null' if config is None else path}"
    ]
    added = [line[1:] for line in result.stdout.splitlines() if line.startswith("+") and line[:3] != "+++"]
    assert [line for line in added if line not in before.splitlines()] == block.splitlines()
    assert "detect with head mtcnn" in check(tmp_path)
    assert not (tmp_path / "embedder" / "config.pbtxt").exists()


def test_nothing_is_written_twice_or_beside_what_is_declared(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "detector", brightness_detector())
    run(tmp_path, "--propose", "--model=detector", "--write")
    written = (folder / "config.pbtxt").read_text()
    with pytest.raises(InvalidArgumentError, match=r"config\.pbtxt has naiad\..*naiad\.task.* already$"):
        run(tmp_path, "--propose", "--model=detector", "--write")
    assert (folder / "config.pbtxt").read_text() == written
    other = 'parameters { key: "naiad.gpu_lanes" value { string_value: "1" } }'
    add_model(tmp_path, "lanes", brightness_detector(), other)
    with pytest.raises(InvalidArgumentError, match=r"'lanes': .*has naiad\.gpu_lanes already$"):
        run(tmp_path, "--propose", "--model=lanes", "--write")
    assert (tmp_path / "lanes" / "config.pbtxt").read_text() == other


def test_what_nothing_is_proposed_for_is_told_with_the_reason(tmp_path: Path) -> None:
    add_model(tmp_path, "sums", add_sub())
    add_model(tmp_path, "broken", brightness_detector(), "max_batch_size: ?")
    add_model(tmp_path, "rows", boxes_alone())
    for name, reason in (
        ("sums", "nothing is proposed for model 'sums': it resembles no known family"),
        ("broken", "nothing is proposed for model 'broken': .*max_batch_size"),
        ("rows", "nothing is written for model 'rows': that it is of family boxes is possible, no more"),
    ):
        with pytest.raises(InvalidArgumentError, match=reason):
            run(tmp_path, "--propose", f"--model={name}", "--write")
    assert not (tmp_path / "rows" / "config.pbtxt").exists()


@pytest.mark.parametrize("before", [None, "max_batch_size: 0\n"])
def test_a_config_that_changed_meanwhile_is_left_as_it_is(tmp_path: Path, before: str | None) -> None:
    """Another one came, or went, while the model was looked at."""
    folder = add_model(tmp_path, "detector", brightness_detector(), before)
    target = ProposalTarget.read([tmp_path], "detector", "")
    inspector = Inspector(
        OrtEnvironment.detect(), read_cpu_budget(1), auto_complete=True, default_max_batch_size=4
    )
    [report] = inspector.inspect([tmp_path]).models
    path = folder / "config.pbtxt"
    path.write_text("max_batch_size: 1\n")
    with pytest.raises(InvalidArgumentError, match="has changed meanwhile"):
        target.append(report)
    assert path.read_text() == "max_batch_size: 1\n"
    path.unlink()
    if before is not None:
        with pytest.raises(InvalidArgumentError, match="has changed meanwhile"):
            target.append(report)
        assert not path.exists()


@pytest.mark.parametrize(
    "options",
    [("--model=a",), ("--write",), ("--propose", "--write"), ("--propose", "--format=json", "--model=a")],
)
def test_options_that_would_be_of_no_effect_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert run(tmp_path, *options).exit_code == 2


def test_a_name_that_leads_out_of_the_repository_is_no_model(tmp_path: Path) -> None:
    add_model(tmp_path, "detector", brightness_detector())
    with pytest.raises(InvalidArgumentError, match=r"--model=\.\./detector is no folder of "):
        run(tmp_path, "--propose", "--model=../detector", "--write")
