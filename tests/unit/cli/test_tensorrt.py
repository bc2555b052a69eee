"""`naiad tensorrt build` where no engine can be built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.runtime.ort_environment import OrtEnvironment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrtEnvironment, "detect", lambda: OrtEnvironment("1", ("CPUExecutionProvider",)))


def test_without_tensorrt_it_says_what_is_there_and_what_to_install(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    error = CliRunner().invoke(app, ["tensorrt", "build", str(tmp_path)]).exception
    assert isinstance(error, UnavailableError)
    assert "CPUExecutionProvider, and 0 GPUs are visible; install naiad[tensorrt]" in error.message


def test_settings_are_serves_own_and_are_checked() -> None:
    result = CliRunner().invoke(app, ["tensorrt", "build", ".", "--tensorrt-cache-max-bytes", "0"])
    assert isinstance(result.exception, InvalidArgumentError)
    assert "--tensorrt-cache-max-bytes" in result.exception.message


def test_help_names_the_cache() -> None:
    assert "--tensorrt-cache-directory" in CliRunner().invoke(app, ["tensorrt", "build", "--help"]).output
