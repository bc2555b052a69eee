"""The few functions of CUDA that shared regions need, called through ctypes: no CUDA package is required."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from naiad.core.errors import InternalError, UnavailableError
from naiad.runtime.cuda.driver import CAPTURE_RELAXED, load_runtime

if TYPE_CHECKING:
    from naiad.services.shared_memory.table import Bytes

_DRIVER = "libcuda.so.1"

# From driver_types.h.
_HOST_TO_DEVICE = 1
_DEVICE_TO_HOST = 2
_LAZY_PEER_ACCESS = 1


class _IpcHandle(ctypes.Structure):
    """cudaIpcMemHandle_t, which is passed by value."""

    _fields_ = (("reserved", ctypes.c_char * 64),)


class LibCuda:
    """CUDA's runtime and driver libraries.

    Args:
        runtime: libcudart.
        driver: libcuda.
    """

    def __init__(self, runtime: ctypes.CDLL, driver: ctypes.CDLL) -> None:
        self._runtime = runtime
        self._driver = driver
        pointer, size, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        runtime.cudaSetDevice.argtypes = [integer]
        runtime.cudaThreadExchangeStreamCaptureMode.argtypes = [ctypes.POINTER(integer)]
        runtime.cudaIpcOpenMemHandle.argtypes = [ctypes.POINTER(pointer), _IpcHandle, ctypes.c_uint]
        runtime.cudaIpcCloseMemHandle.argtypes = [pointer]
        runtime.cudaMemcpy.argtypes = [pointer, pointer, size, integer]
        runtime.cudaStreamSynchronize.argtypes = [pointer]
        runtime.cudaGetErrorString.argtypes = [integer]
        runtime.cudaGetErrorString.restype = ctypes.c_char_p
        driver.cuMemGetAddressRange_v2.argtypes = [
            ctypes.POINTER(ctypes.c_uint64),
            ctypes.POINTER(size),
            ctypes.c_uint64,
        ]

    def open(self, handle: bytes, device: int) -> int:
        """Map the allocation behind the handle and give its address on `device`.

        Raises:
            InternalError: CUDA refused.
        """
        self._use(device)
        pointer = ctypes.c_void_p()
        ipc_handle = _IpcHandle.from_buffer_copy(handle)
        self._call("cudaIpcOpenMemHandle", ctypes.byref(pointer), ipc_handle, _LAZY_PEER_ACCESS)
        if pointer.value is None:
            raise InternalError("cudaIpcOpenMemHandle gave no address")
        return pointer.value

    def extent(self, pointer: int, device: int) -> int:
        """Bytes from `pointer` to the end of its allocation.

        Raises:
            InternalError: CUDA refused.
        """
        self._use(device)
        base, size = ctypes.c_uint64(), ctypes.c_size_t()
        code = self._driver.cuMemGetAddressRange_v2(ctypes.byref(base), ctypes.byref(size), pointer)
        if code != 0:
            raise InternalError(f"cuMemGetAddressRange failed with code {code}")
        return base.value + size.value - pointer

    def copy_to_host(self, target: Bytes, pointer: int, device: int) -> None:
        """Fill `target`, uint8 `[n]`, from `pointer`.

        Raises:
            InternalError: CUDA refused.
        """
        self._use(device)
        self._call("cudaMemcpy", target.ctypes.data, pointer, target.nbytes, _DEVICE_TO_HOST)

    def copy_to_device(self, pointer: int, source: Bytes, device: int) -> None:
        """Copy `source`, uint8 `[n]`, to `pointer`, and wait until every process can see it.

        Raises:
            InternalError: CUDA refused.
        """
        self._use(device)
        self._call("cudaMemcpy", pointer, source.ctypes.data, source.nbytes, _HOST_TO_DEVICE)
        # A small copy from pageable memory returns once it is staged.
        self._call("cudaStreamSynchronize", None)

    def close(self, pointer: int, device: int) -> None:
        """Unmap what `open` mapped.

        Raises:
            InternalError: CUDA refused.
        """
        self._use(device)
        self._call("cudaIpcCloseMemHandle", pointer)

    def _use(self, device: int) -> None:
        if not 0 <= device < 2**31:
            raise InternalError(f"device {device} is no GPU's number")
        # Both are each thread's own. The engine captures graphs in CUDA's global mode, which would make the
        # copies of other threads fail meanwhile.
        self._call("cudaSetDevice", device)
        self._call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(ctypes.c_int(CAPTURE_RELAXED)))

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._runtime, function)(*arguments)
        if code != 0:
            self._runtime.cudaGetLastError()  # or this thread's next caller would be told of it
            text = self._runtime.cudaGetErrorString(code) or b""
            raise InternalError(f"{function} failed: {text.decode(errors='replace')} ({code})")


def load_cuda() -> LibCuda:
    """CUDA as it is installed on this machine.

    Raises:
        UnavailableError: its libraries are not to be found.
    """
    try:
        return LibCuda(load_runtime(), ctypes.CDLL(_DRIVER))
    except (OSError, AttributeError) as error:  # AttributeError: a library without one of the functions
        raise UnavailableError(f"CUDA is not usable: {error}") from error
