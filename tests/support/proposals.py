"""Repositories whose configs are what `naiad check --propose` writes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper
from support.onnx_models import info, model
from typer.testing import CliRunner

from naiad.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

WIDTH = 336
"""Length of `row_embedder`'s vectors."""


def proposed(repository: Path) -> str:
    """What `naiad check --propose` writes of a repository."""
    result = CliRunner().invoke(app, ["check", str(repository), "--propose"])
    assert result.exit_code == 0, result.output
    return result.stdout


def adopt_proposals(repository: Path) -> dict[str, str]:
    """Give each model without a config the text that is proposed for it alone; returns the texts."""
    blocks = {block.split(":")[0].removeprefix("# "): block for block in proposed(repository).split("\n\n")}
    for name, block in blocks.items():
        (repository / name / "config.pbtxt").write_text(block)
    return blocks


def row_embedder() -> onnx.ModelProto:
    """The embedding of a crop, float `[3, 112, 112]`, is the mean of each of its columns, channel by channel."""
    return model(
        [
            helper.make_node("ReduceMean", ["crop", "axes"], ["means"], keepdims=0),
            helper.make_node("Reshape", ["means", "shape"], ["embedding"]),
        ],
        [info("crop", TensorProto.FLOAT, ["N", 3, 112, 112])],
        [info("embedding", TensorProto.FLOAT, ["N", WIDTH])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [2]),
            helper.make_tensor("shape", TensorProto.INT64, [2], [-1, WIDTH]),
        ],
    )
