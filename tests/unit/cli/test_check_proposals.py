"""`naiad check` on models without `naiad.` parameters: a line that says what they may be, text for their configs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from onnx import TensorProto, helper
from support.onnx_models import add_sub, info, model
from support.proposals import adopt_proposals, proposed, row_embedder
from support.repositories import add_model
from support.vision_models import DETECTOR_CONFIG, brightness_detector
from typer.testing import CliRunner

from naiad.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path


def check(*arguments: object) -> str:
    return CliRunner().invoke(app, ["check", *map(str, arguments)]).stdout


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
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["rows"])]
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [1, 300, 6])
    image, rows = (
        info("image", TensorProto.FLOAT, [1, 3, 64, 64]),
        info("rows", TensorProto.FLOAT, [1, 300, 6]),
    )
    add_model(tmp_path, "rows", model(nodes, [image], [rows], [shape]))
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
