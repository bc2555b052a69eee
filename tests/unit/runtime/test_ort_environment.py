"""The installed engine is described as it is, and a missing one says what to install."""

from __future__ import annotations

import _ctypes
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import onnxruntime
import pytest

from naiad.core.errors import UnavailableError
from naiad.runtime.ort_environment import (
    OrtEnvironment,
    count_gpus,
    import_onnxruntime,
    load_tensorrt,
)
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
        "onnxruntime and onnxruntime-gpu and onnxruntime-openvino are all installed" in each
        for each in OrtEnvironment.detect().warnings
    )


def test_no_driver_means_no_gpus() -> None:
    assert count_gpus("libno-such-driver.so.1") == 0


def test_tensorrts_wheel_is_loaded_where_it_is_installed_and_a_broken_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in wheel: its first library is a real shared object, its second is none, its third is missing."""
    wheel = tmp_path / "tensorrt_libs"
    wheel.mkdir()
    (wheel / "__init__.py").touch()
    shutil.copy(_ctypes.__file__, wheel / "libnvinfer.so.10")
    (wheel / "libnvinfer_plugin.so.10").write_text("no library")
    monkeypatch.syspath_prepend(tmp_path)
    plugin, parser = load_tensorrt()
    assert str(wheel / "libnvinfer.so.10") in Path("/proc/self/maps").read_text()
    assert "libnvinfer_plugin.so.10 cannot be loaded" in plugin
    assert "libnvonnxparser.so.10 cannot be loaded" in parser


def test_without_tensorrts_wheel_nothing_is_loaded() -> None:
    assert load_tensorrt() == ()


def test_the_engine_does_not_report_to_its_maker(tmp_path: Path) -> None:
    """Its official builds do by default: they keep a device's id and a database of events for it."""
    inherited = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path))
    program = "from naiad.runtime.ort_environment import OrtEnvironment; OrtEnvironment.detect()"
    subprocess.run([sys.executable, "-c", program], env=inherited | homes, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
