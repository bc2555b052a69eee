"""The GPU benchmark goes its whole way on a machine without one, and says what its figures are worth then."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from bench import gpu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(120)
def test_every_way_is_gone_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "gpu.json"
    flags = ["--cpu", "--side=16", "--max-batch=2", "--seconds=0.001", f"--json={written}"]
    monkeypatch.setattr(sys, "argv", ["gpu", *flags])
    gpu.main()
    figures = json.loads(written.read_text(encoding="utf-8"))
    assert figures["device"].startswith("none")
    models, sizes = {"network_float32", "network_float16"}, {1, 2}
    ways = [way.name for way in gpu.WAYS if not way.tensorrt]
    told = {(row["model"], row["way"], row["batch"]) for row in figures["batches"]}
    assert told == {(model, way, size) for model in models for way in ways for size in sizes}
    assert all(row["items_per_s"] > 0 for row in figures["batches"])
    assert len(figures["first_runs"]) == 2 * 3 * 2
    assert "figures say nothing" in capsys.readouterr().out
