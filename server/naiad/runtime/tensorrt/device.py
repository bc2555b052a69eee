"""What an engine is good for beside its model: the GPU's kind and the version of TensorRT. Through ctypes."""

from __future__ import annotations

import ctypes
from typing import NamedTuple, Protocol

from naiad.core.errors import UnavailableError

_DRIVER = "libcuda.so.1"
_TENSORRT = "libnvinfer.so.10"
_NAME_BYTES = 256
# From cuda.h: CUdevice_attribute.
_MAJOR, _MINOR = 75, 76


class GpuKind(NamedTuple):
    """A GPU's name, such as NVIDIA H100 80GB HBM3, and its compute capability, such as 9.0."""

    name: str
    compute_capability: str


class Driver(Protocol):
    """What is asked of the machine's libraries; a test's fake has answers of its own."""

    def gpu_kind(self, gpu: int) -> GpuKind:
        """The GPU of that number; raises UnavailableError."""
        ...

    def tensorrt_version(self) -> str:
        """The version of TensorRT that the engine will load; raises UnavailableError."""
        ...


class LibraryDriver:
    """Asks the CUDA driver and TensorRT itself."""

    def gpu_kind(self, gpu: int) -> GpuKind:
        """Name and compute capability of a visible GPU.

        Raises:
            UnavailableError: there is no driver, or no such GPU.
        """
        driver = _load(_DRIVER)
        device = ctypes.c_int()
        _check(driver.cuInit(0), "cuInit")
        _check(driver.cuDeviceGet(ctypes.byref(device), gpu), f"cuDeviceGet of GPU {gpu}")
        name = ctypes.create_string_buffer(_NAME_BYTES)
        _check(driver.cuDeviceGetName(name, _NAME_BYTES, device), f"cuDeviceGetName of GPU {gpu}")
        numbers = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            code = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            _check(code, f"cuDeviceGetAttribute of GPU {gpu}")
            numbers.append(str(value.value))
        return GpuKind(name.value.decode("utf-8", "replace"), ".".join(numbers))

    def tensorrt_version(self) -> str:
        """TensorRT's own number, such as 101303 for 10.13.3.

        Raises:
            UnavailableError: its library is not there.
        """
        library = _load(_TENSORRT)
        library.getInferLibVersion.restype = ctypes.c_int32
        return str(library.getInferLibVersion())


def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise UnavailableError(f"{name} cannot be loaded: {error}") from error


def _check(code: int, what: str) -> None:
    if code:
        raise UnavailableError(f"the CUDA driver answers {what} with error {code}")
