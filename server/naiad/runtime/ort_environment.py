"""The installed ONNX Runtime: is it there, which build, and which GPUs can it see?

The one place that imports it, and only when asked, so that everything else works without.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naiad.core.errors import UnavailableError
from naiad.runtime.providers import CUDA, TENSORRT

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
_CUDA_DRIVER = "libcuda.so.1"
_TENSORRT_PACKAGE = "tensorrt_libs"
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
_LOG_ERRORS_ONLY = 3
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


@dataclass(frozen=True, slots=True)
class OrtEnvironment:
    """What the installed engine offers. `available` are its execution providers, `warnings` sentences."""

    version: str
    available: tuple[str, ...]
    gpu_count: int = 0
    warnings: tuple[str, ...] = ()

    @classmethod
    def detect(cls) -> OrtEnvironment:
        """Import the engine, load its GPU libraries if it has any, and count GPUs. Call it once, at start.

        Raises:
            UnavailableError: no ONNX Runtime is installed, or it cannot be imported.
        """
        ort = import_onnxruntime()
        ort.set_default_logger_severity(_LOG_ERRORS_ONLY)
        available = tuple(ort.get_available_providers())
        warnings = [*_wheel_warnings()]
        gpu_count = 0
        if CUDA in available:
            warnings += _preload_libraries(ort)
            warnings += load_tensorrt() if TENSORRT in available else ()
            gpu_count = count_gpus()
        elif hidden := _driver_gpus():
            warnings.append(
                f"{hidden} NVIDIA GPU(s) are installed, and this onnxruntime cannot use them: "
                "install naiad[gpu] in place of naiad[cpu]"
            )
        return cls(ort.__version__, available, gpu_count, tuple(warnings))


def import_onnxruntime() -> Any:
    """The `onnxruntime` module.

    Raises:
        UnavailableError: it is not installed, or its libraries do not load.
    """
    # Its official builds report to their maker, by way of a database below the home folder, unless this is
    # set before they are imported. An operator who wants that sets it to 0.
    os.environ.setdefault(_NO_TELEMETRY, "1")
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UnavailableError(
            f"ONNX Runtime cannot be imported ({error}): install naiad[cpu], or naiad[gpu] for NVIDIA GPUs"
        ) from error


def count_gpus(library: str = _CUDA_DRIVER) -> int:
    """The GPUs that CUDA lets this process use; 0 without a driver.

    The driver is asked because it alone knows CUDA_VISIBLE_DEVICES and what a container was given.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return 0
    count = ctypes.c_int(0)
    # Both answer 0 for success.
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _preload_libraries(ort: Any) -> Iterator[str]:
    """Load CUDA and cuDNN from their wheels; what the engine prints about missing ones becomes warnings."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        ort.preload_dlls()
    return (line.strip() for line in printed.getvalue().splitlines() if line.strip())


def load_tensorrt() -> tuple[str, ...]:
    """Load TensorRT's libraries from their wheel, where the loader would not look for them.

    `onnxruntime.preload_dlls` knows CUDA and cuDNN only. Without the wheel nothing is done: TensorRT may
    still be installed in the system. Returns a sentence for each library that could not be loaded.
    """
    found = importlib.util.find_spec(_TENSORRT_PACKAGE)
    folders = found.submodule_search_locations if found else None
    if not folders:
        return ()
    warnings = []
    # In this order: the later ones need the first.
    for library in _TENSORRT_LIBRARIES:
        path = Path(folders[0]) / library
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            warnings.append(f"TensorRT's {library} cannot be loaded: {error}")
    return tuple(warnings)


def _wheel_warnings() -> Iterator[str]:
    installed = [name for name in _WHEELS if _version(name)]
    if len(installed) > 1:
        yield (
            f"{' and '.join(installed)} are all installed and overwrite each other's files: "
            "uninstall all of them, then install one of naiad[cpu], naiad[gpu] and naiad[openvino]"
        )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _driver_gpus() -> int:
    return len(list(_DRIVER_GPUS.iterdir())) if _DRIVER_GPUS.is_dir() else 0
