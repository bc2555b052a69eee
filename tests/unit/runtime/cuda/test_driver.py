"""What is asked of libcudart, and what its refusals become."""

from __future__ import annotations

import ctypes
from typing import Any, cast

import pytest

from naiad.core.errors import InternalError, ResourceExhaustedError, UnavailableError
from naiad.runtime.cuda import driver as driver_module
from naiad.runtime.cuda.driver import CudaDriver, load_driver

FUNCTIONS = (
    "cudaSetDevice",
    "cudaThreadExchangeStreamCaptureMode",
    "cudaHostAlloc",
    "cudaFreeHost",
    "cudaMalloc",
    "cudaFree",
    "cudaStreamCreateWithFlags",
    "cudaStreamDestroy",
    "cudaMemcpyAsync",
    "cudaStreamSynchronize",
    "cudaGetErrorString",
    "cudaGetLastError",
)


class Function:
    """One of libcudart's functions: remembers its arguments, gives an address, answers a code."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        self.runtime = runtime
        self.argtypes: list[Any] = []
        self.restype: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "cudaGetErrorString":
            return b"told by CUDA"
        shown = tuple(each._obj if hasattr(each, "_obj") else each for each in arguments)
        self.runtime.calls.append((self.name, *(getattr(each, "value", each) for each in shown)))
        if shown and isinstance(shown[0], ctypes.c_void_p):
            shown[0].value = 4096
        return self.runtime.codes.get(self.name, 0)


class Runtime:
    """A libcudart without a GPU."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.calls: list[tuple[Any, ...]] = []
        for name in FUNCTIONS:
            setattr(self, name, Function(name, self))


def driver_of(runtime: Runtime, device: int = 1) -> CudaDriver:
    return CudaDriver(cast("ctypes.CDLL", runtime), device)


def test_a_thread_takes_its_gpu_and_lets_others_capture() -> None:
    """Mode 2 is cudaStreamCaptureModeRelaxed: allocations go on while another thread captures a graph."""
    runtime = Runtime()
    driver_of(runtime).enter()
    assert runtime.calls == [("cudaSetDevice", 1), ("cudaThreadExchangeStreamCaptureMode", 2)]


def test_memory_streams_and_copies() -> None:
    runtime = Runtime()
    driver = driver_of(runtime)
    assert (driver.allocate_pinned(10), driver.allocate_device(20), driver.open_stream()) == (4096,) * 3
    driver.to_device(1, 2, 3, 4)
    driver.to_host(5, 6, 7, 8)
    driver.synchronize(4)
    driver.free_pinned(1)
    driver.free_device(2)
    driver.close_stream(4)
    assert runtime.calls == [
        ("cudaHostAlloc", None, 10, 1),  # portable: any GPU's context may copy from it
        ("cudaMalloc", None, 20),
        ("cudaStreamCreateWithFlags", None, 1),  # non-blocking
        ("cudaMemcpyAsync", 1, 2, 3, 1, 4),  # to the device
        ("cudaMemcpyAsync", 5, 6, 7, 2, 8),  # to the host
        ("cudaStreamSynchronize", 4),
        ("cudaFreeHost", 1),
        ("cudaFree", 2),
        ("cudaStreamDestroy", 4),
    ]


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaHostAlloc"])
def test_no_memory_left_is_its_own_error(function: str) -> None:
    runtime = Runtime(**{function: 2})
    allocate = (
        driver_of(runtime).allocate_device if function == "cudaMalloc" else driver_of(runtime).allocate_pinned
    )
    with pytest.raises(ResourceExhaustedError, match=rf"GPU 1: {function} failed: told by CUDA \(2\)"):
        allocate(10)


def test_any_other_code_is_told_and_cleared_for_the_next_caller() -> None:
    runtime = Runtime(cudaStreamSynchronize=700)
    with pytest.raises(InternalError, match=r"GPU 1: cudaStreamSynchronize failed: told by CUDA \(700\)"):
        driver_of(runtime).synchronize(4)
    assert runtime.calls[-1] == ("cudaGetLastError",)


def test_a_library_without_one_of_the_functions_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    del runtime.cudaMemcpyAsync  # type: ignore[attr-defined]  # made by setattr
    monkeypatch.setattr(driver_module, "load_runtime", lambda: runtime)
    with pytest.raises(UnavailableError, match="CUDA is not usable: .*cudaMemcpyAsync"):
        load_driver(0)


def test_no_library_at_all_is_said_with_what_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "_RUNTIMES", ("libcudart.so.0",))
    monkeypatch.setattr(driver_module, "_wheel_runtimes", lambda: ())
    with pytest.raises(UnavailableError, match=r"found none of libcudart\.so\.0, nor a wheel"):
        load_driver(0)
