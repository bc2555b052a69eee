"""The few functions of CUDA that buffers and copies need, through ctypes, and the seam before them."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from naiad.core.errors import InternalError, ResourceExhaustedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Newest first, as the engine's own wheels bring them. One that is loaded already is found by its name.
_RUNTIMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")

# From driver_types.h and cuda_runtime_api.h.
_HOST_TO_DEVICE = 1
_DEVICE_TO_HOST = 2
_NON_BLOCKING = 1
_PORTABLE = 1
CAPTURE_RELAXED = 2
"""The mode in which a thread's calls go on while another one captures a graph."""
_OUT_OF_MEMORY = 2


class Driver(Protocol):
    """One GPU's memory and copies. Addresses and streams are numbers; sizes are bytes.

    All but `close` may be called from any thread; a thread calls `enter` before anything else.
    """

    device_name: str
    """What the engine calls this memory: `cuda`."""
    device_id: int

    def enter(self) -> None:
        """Make the GPU this thread's, and let its calls go on while another thread captures a graph."""
        ...

    def allocate_pinned(self, size: int) -> int:
        """Page-locked host memory; raises ResourceExhaustedError where there is none left."""
        ...

    def free_pinned(self, address: int) -> None:
        """Give it back."""
        ...

    def allocate_device(self, size: int) -> int:
        """Memory of the GPU; raises ResourceExhaustedError where there is none left."""
        ...

    def free_device(self, address: int) -> None:
        """Give it back."""
        ...

    def open_stream(self) -> int:
        """A stream whose copies wait for no other stream."""
        ...

    def close_stream(self, stream: int) -> None:
        """Give it back."""
        ...

    def to_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Begin to copy pinned memory to the GPU."""
        ...

    def to_host(self, target: int, source: int, size: int, stream: int) -> None:
        """Begin to copy to pinned memory."""
        ...

    def synchronize(self, stream: int) -> None:
        """Wait until the stream's copies are done."""
        ...


class CudaDriver:
    """The `Driver` of one GPU, on libcudart.

    Args:
        runtime: libcudart.
        device_id: the GPU.
    """

    device_name = "cuda"

    def __init__(self, runtime: ctypes.CDLL, device_id: int) -> None:
        self.device_id = device_id
        self._runtime = runtime
        pointer, size, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        reference = ctypes.POINTER(pointer)
        for name, arguments in {
            "cudaSetDevice": [integer],
            "cudaThreadExchangeStreamCaptureMode": [ctypes.POINTER(integer)],
            "cudaHostAlloc": [reference, size, ctypes.c_uint],
            "cudaFreeHost": [pointer],
            "cudaMalloc": [reference, size],
            "cudaFree": [pointer],
            "cudaStreamCreateWithFlags": [reference, ctypes.c_uint],
            "cudaStreamDestroy": [pointer],
            "cudaMemcpyAsync": [pointer, pointer, size, integer, pointer],
            "cudaStreamSynchronize": [pointer],
        }.items():
            getattr(runtime, name).argtypes = arguments
        runtime.cudaGetErrorString.argtypes = [integer]
        runtime.cudaGetErrorString.restype = ctypes.c_char_p

    def enter(self) -> None:
        """See `Driver.enter`; both are each thread's own."""
        self._call("cudaSetDevice", self.device_id)
        # The engine captures in CUDA's global mode, which forbids other threads to allocate meanwhile.
        mode = ctypes.c_int(CAPTURE_RELAXED)
        self._call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(mode))

    def allocate_pinned(self, size: int) -> int:
        """See `Driver.allocate_pinned`."""
        return self._address("cudaHostAlloc", size, _PORTABLE)

    def free_pinned(self, address: int) -> None:
        """See `Driver.free_pinned`."""
        self._call("cudaFreeHost", address)

    def allocate_device(self, size: int) -> int:
        """See `Driver.allocate_device`."""
        return self._address("cudaMalloc", size)

    def free_device(self, address: int) -> None:
        """See `Driver.free_device`."""
        self._call("cudaFree", address)

    def open_stream(self) -> int:
        """See `Driver.open_stream`."""
        return self._address("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def close_stream(self, stream: int) -> None:
        """See `Driver.close_stream`."""
        self._call("cudaStreamDestroy", stream)

    def to_device(self, target: int, source: int, size: int, stream: int) -> None:
        """See `Driver.to_device`."""
        self._call("cudaMemcpyAsync", target, source, size, _HOST_TO_DEVICE, stream)

    def to_host(self, target: int, source: int, size: int, stream: int) -> None:
        """See `Driver.to_host`."""
        self._call("cudaMemcpyAsync", target, source, size, _DEVICE_TO_HOST, stream)

    def synchronize(self, stream: int) -> None:
        """See `Driver.synchronize`."""
        self._call("cudaStreamSynchronize", stream)

    def _address(self, function: str, *arguments: int) -> int:
        pointer = ctypes.c_void_p()
        self._call(function, ctypes.byref(pointer), *arguments)
        if pointer.value is None:
            raise InternalError(f"{function} gave no address")
        return pointer.value

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._runtime, function)(*arguments)
        if code == 0:
            return
        self._runtime.cudaGetLastError()  # or this thread's next caller would be told of it
        text = (self._runtime.cudaGetErrorString(code) or b"").decode(errors="replace")
        if code == _OUT_OF_MEMORY:
            raise ResourceExhaustedError(f"GPU {self.device_id}: {function} failed: {text} ({code})")
        raise InternalError(f"GPU {self.device_id}: {function} failed: {text} ({code})")


def load_driver(device_id: int) -> CudaDriver:
    """The driver of a GPU.

    Raises:
        UnavailableError: CUDA's runtime library is not to be found.
    """
    try:
        return CudaDriver(load_runtime(), device_id)
    except AttributeError as error:  # a library without one of the functions
        raise UnavailableError(f"CUDA is not usable: {error}") from error


def load_runtime() -> ctypes.CDLL:
    """The CUDA runtime: one that is loaded already, the system's, or that of the nvidia wheels.

    Raises:
        UnavailableError: there is none.
    """
    for candidate in (*_RUNTIMES, *_wheel_runtimes()):
        try:
            return ctypes.CDLL(candidate)
        except OSError:
            continue
    raise UnavailableError(f"CUDA is not usable: found none of {', '.join(_RUNTIMES)}, nor a wheel with one")


def _wheel_runtimes() -> Iterator[str]:
    """Runtimes inside the `nvidia` packages, such as `nvidia/cu13/lib/libcudart.so.13`."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in sorted(Path(folder).glob("*/lib/libcudart.so.*"), reverse=True):
            yield str(path)
