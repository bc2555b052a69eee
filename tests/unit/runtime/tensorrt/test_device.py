"""What a machine without a GPU or TensorRT says; what one with them says is tested in `tests/gpu`."""

from __future__ import annotations

import pytest

from naiad.core.errors import UnavailableError
from naiad.runtime.tensorrt.device import LibraryDriver


def test_a_machine_without_the_libraries_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naiad.runtime.tensorrt.device._DRIVER", "libnone-cuda.so")
    monkeypatch.setattr("naiad.runtime.tensorrt.device._TENSORRT", "libnone-nvinfer.so")
    with pytest.raises(UnavailableError, match="libnone-cuda"):
        LibraryDriver().gpu_kind(0)
    with pytest.raises(UnavailableError, match="libnone-nvinfer"):
        LibraryDriver().tensorrt_version()
