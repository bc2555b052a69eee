"""The installed engine is described as it is, and a missing one says what to install."""

from __future__ import annotations

import sys
from importlib import metadata

import onnxruntime
import pytest

from naiad.core.errors import UnavailableError
from naiad.runtime.ort_environment import OrtEnvironment, count_gpus, import_onnxruntime
from naiad.runtime.providers import CPU


def test_detect_describes_the_installed_engine() -> None:
    environment = OrtEnvironment.detect()
    assert environment.version == onnxruntime.__version__
    assert environment.available == tuple(onnxruntime.get_available_providers())
    assert CPU in environment.available


def test_without_the_engine_the_error_names_both_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"install naiad\[cpu\], or naiad\[gpu\]"):
        import_onnxruntime()


def test_both_wheels_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _name: "1.0")
    assert any(
        "onnxruntime and onnxruntime-gpu are both" in each for each in OrtEnvironment.detect().warnings
    )


def test_no_driver_means_no_gpus() -> None:
    assert count_gpus("libno-such-driver.so.1") == 0
