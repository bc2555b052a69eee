"""The calls to CUDA: what is asked, and how its refusals are told. Its libraries are stood in for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from naiad.core.errors import InternalError, UnavailableError
from naiad.services.shared_memory.cuda_driver import LibCuda, load_cuda

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

BASE = 4096


class Function:
    """A function of a library: callable, and with the attributes that ctypes wants to set."""

    def __init__(self, call: Callable[..., int | bytes]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> int | bytes:
        return self._call(*arguments)


class Libraries:
    """CUDA's two libraries, with one allocation of 256 bytes at `BASE`; `code` is what calls answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.modes: list[int] = []
        self.code = 0
        self.runtime = SimpleNamespace(
            cudaSetDevice=Function(lambda device: self.record("device", device, code=0)),
            cudaThreadExchangeStreamCaptureMode=Function(self.exchange_mode),
            cudaIpcOpenMemHandle=Function(self.open),
            cudaIpcCloseMemHandle=Function(lambda pointer: self.record("close", pointer)),
            cudaMemcpy=Function(lambda *arguments: self.record("copy", *arguments)),
            cudaStreamSynchronize=Function(lambda stream: self.record("synchronize")),
            cudaGetErrorString=Function(lambda code: b"it went wrong"),
            cudaGetLastError=Function(lambda: self.record("clear")),
        )
        self.driver = SimpleNamespace(cuMemGetAddressRange_v2=Function(self.address_range))

    def cuda(self) -> LibCuda:
        return LibCuda(cast("ctypes.CDLL", self.runtime), cast("ctypes.CDLL", self.driver))

    def record(self, *call: object, code: int | None = None) -> int:
        self.calls.append(call)
        return self.code if code is None else code

    def exchange_mode(self, mode: Any) -> int:
        self.modes.append(mode._obj.value)
        return 0

    def open(self, pointer: Any, handle: Any, flags: int) -> int:
        pointer._obj.value = BASE if self.code == 0 else None
        return self.record("open", bytes(handle), flags)

    def address_range(self, base: Any, size: Any, pointer: int) -> int:
        base._obj.value, size._obj.value = BASE, 256
        return self.record("range", pointer)


def test_a_handle_is_opened_on_its_device_with_lazy_peer_access() -> None:
    libraries = Libraries()
    handle = bytes(range(64))
    assert libraries.cuda().open(handle, 3) == BASE
    assert libraries.calls == [("device", 3), ("open", handle, 1)]


def test_the_extent_is_what_is_left_of_the_allocation() -> None:
    assert Libraries().cuda().extent(BASE + 56, 0) == 200


def test_copies_go_the_right_way_and_one_to_the_device_is_waited_for() -> None:
    libraries = Libraries()
    cuda = libraries.cuda()
    buffer = np.zeros(16, np.uint8)
    cuda.copy_to_host(buffer, BASE, 0)
    cuda.copy_to_device(BASE, buffer, 1)
    cuda.close(BASE, 1)
    address = buffer.ctypes.data
    assert libraries.calls == [
        ("device", 0),
        ("copy", address, BASE, 16, 2),
        ("device", 1),
        ("copy", BASE, address, 16, 1),
        ("synchronize",),
        ("device", 1),
        ("close", BASE),
    ]


def test_copies_go_on_while_a_graph_is_captured_elsewhere() -> None:
    """Mode 2 is cudaStreamCaptureModeRelaxed, of this thread: others capture in the global mode."""
    libraries = Libraries()
    libraries.cuda().copy_to_host(np.zeros(16, np.uint8), BASE, 0)
    assert libraries.modes == [2]


def test_a_refusal_names_function_and_reason_and_is_not_left_for_the_thread_s_next_caller() -> None:
    libraries = Libraries()
    libraries.code = 1
    with pytest.raises(InternalError, match=r"^cudaIpcOpenMemHandle failed: it went wrong \(1\)$"):
        libraries.cuda().open(bytes(64), 0)
    assert libraries.calls[-1] == ("clear",)


@pytest.mark.parametrize("device", [-1, 2**31, 2**63])
def test_a_device_that_is_no_number_of_a_gpu_never_reaches_cuda(device: int) -> None:
    libraries = Libraries()
    with pytest.raises(InternalError, match=f"device {device} "):
        libraries.cuda().open(bytes(64), device)
    assert libraries.calls == []


def test_a_machine_without_cuda_says_what_is_missing() -> None:
    try:
        load_cuda()
    except UnavailableError as error:
        message = error.message
    else:
        pytest.skip("CUDA is installed here")
    assert "libcu" in message
