"""Whatever changes an engine changes its name, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from naiad.runtime.graph import PreparedModel
from naiad.runtime.tensorrt.device import GpuKind
from naiad.runtime.tensorrt.key import EngineFacts, engine_key, model_digest, timing_key

if TYPE_CHECKING:
    from pathlib import Path

H100 = GpuKind("NVIDIA H100", "9.0")
FACTS = EngineFacts("digest", {"trt_fp16_enable": "True", "device_id": "0"}, H100, "101303", "1.31.1", "ALL")


@pytest.mark.parametrize(
    "change",
    [
        {"model": "another"},
        {"options": {"device_id": "0"}},
        {"options": {"trt_fp16_enable": "True", "trt_profile_min_shapes": "x:1x3"}},
        {"gpu": GpuKind("NVIDIA H200", "9.0")},
        {"gpu": GpuKind("NVIDIA H100", "8.0")},
        {"tensorrt": "101200"},
        {"onnxruntime": "1.30.0"},
        {"optimization": "BASIC"},
    ],
)
def test_each_fact_counts(change: dict[str, Any]) -> None:
    assert engine_key(replace(FACTS, **change)) != engine_key(FACTS)


def test_what_changes_no_engine_does_not_count() -> None:
    options = {"trt_fp16_enable": "True", "device_id": "3", "trt_engine_cache_path": "/x"}
    assert engine_key(replace(FACTS, options=options)) == engine_key(FACTS)
    assert len(engine_key(FACTS)) == 64


def test_the_timing_cache_is_that_of_gpu_and_tensorrt() -> None:
    keys = {timing_key(H100, "1"), timing_key(H100, "2"), timing_key(GpuKind("NVIDIA L4", "8.9"), "1")}
    assert len(keys) == 3
    assert engine_key(FACTS) not in keys


def test_the_digest_is_of_all_files_beside_the_model(tmp_path: Path) -> None:
    """Weights in files of their own count, wherever they lie below the version's folder."""
    model, weights = tmp_path / "model.onnx", tmp_path / "data" / "weights.bin"
    weights.parent.mkdir()
    model.write_bytes(b"graph")
    weights.write_bytes(b"weights")
    first = model_digest(model, PreparedModel(str(model)))
    assert model_digest(model, PreparedModel(str(model))) == first
    weights.write_bytes(b"others")
    second = model_digest(model, PreparedModel(str(model)))
    model.write_bytes(b"another")
    third = model_digest(model, PreparedModel(str(model)))
    changed = model_digest(model, PreparedModel(b"a changed graph"))
    assert len({first, second, third, changed}) == 4


def test_links_that_lead_nowhere_are_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    before = model_digest(tmp_path / "model.onnx", PreparedModel(""))
    (tmp_path / "gone.bin").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert model_digest(tmp_path / "model.onnx", PreparedModel("")) == before
