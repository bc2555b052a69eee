"""Model folders written for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[..., Path]:
    """Call it with a config's text (None: no file) to get a folder `model` with an empty `1/model.onnx`."""

    def write(text: str | None, name: str = "model", filename: str | None = "model.onnx") -> Path:
        folder = tmp_path / name
        (folder / "1").mkdir(parents=True)
        if filename is not None:
            (folder / "1" / filename).touch()
        if text is not None:
            (folder / "config.pbtxt").write_text(text, encoding="utf-8")
        return folder

    return write
