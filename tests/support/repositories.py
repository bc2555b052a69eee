"""Model repositories that tests write into a folder of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx


def add_model(
    repository: Path,
    name: str,
    versions: onnx.ModelProto | bytes | Mapping[int, onnx.ModelProto | bytes],
    config: str | None = None,
) -> Path:
    """Write `NAME/config.pbtxt` (unless None) and one `N/model.onnx` a version; returns the model's folder.

    A single model is version 1; bytes are written as they are.
    """
    folder = repository / name
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    if not isinstance(versions, dict):
        versions = {1: versions}  # type: ignore[dict-item]  # the Mapping case is excluded above
    for number, model in versions.items():
        (folder / str(number)).mkdir()
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (folder / str(number) / "model.onnx").write_bytes(data)
    return folder


ADD_SUB_CONFIG = """
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
"""
"""Triton's `simple` example, without dynamic batching."""
