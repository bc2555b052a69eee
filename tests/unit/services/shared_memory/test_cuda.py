"""CUDA regions over a driver that keeps its allocations in host memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from naiad.core.errors import InternalError, InvalidArgumentError, NotFoundError, UnavailableError
from naiad.services.shared_memory.cuda import CudaRegions
from naiad.services.shared_memory.table import RegionTable

if TYPE_CHECKING:
    from naiad.services.shared_memory.table import Bytes

BASE = 0x7F00_0000_0000
HANDLE = b"h" * 64


class HostDriver:
    """One allocation of 256 bytes on device 1 that `HANDLE` names."""

    def __init__(self) -> None:
        self.memory = bytearray(range(256))
        self.mapped = 0
        self.extent_fails = False
        self.close_fails = False

    def open(self, handle: bytes, device: int) -> int:
        if handle != HANDLE or device != 1:
            raise InternalError("cudaIpcOpenMemHandle failed: invalid argument (1)")
        self.mapped += 1
        return BASE

    def extent(self, pointer: int, device: int) -> int:
        if self.extent_fails:
            raise InternalError("cuMemGetAddressRange failed with code 1")
        return BASE + len(self.memory) - pointer

    def copy_to_host(self, target: Bytes, pointer: int, device: int) -> None:
        target.data[:] = self.memory[pointer - BASE : pointer - BASE + target.size]

    def copy_to_device(self, pointer: int, source: Bytes, device: int) -> None:
        self.memory[pointer - BASE : pointer - BASE + source.size] = source.tobytes()

    def close(self, pointer: int, device: int) -> None:
        assert pointer == BASE
        self.mapped -= 1
        if self.close_fails:
            raise InternalError("cudaIpcCloseMemHandle failed: driver shutting down (4)")


class Setup:
    def __init__(self) -> None:
        self.driver = HostDriver()
        self.loads = 0
        self.table = RegionTable(10)
        self.regions = CudaRegions(self.table, self.load)

    def load(self) -> HostDriver:
        self.loads += 1
        return self.driver


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_a_region_is_registered_read_written_and_closed(setup: Setup) -> None:
    setup.regions.register("c", HANDLE, 1, 128)
    assert setup.regions.status("c") == [("c", 1, 128)]
    with setup.table.lease("c", 100, 28) as lease:
        assert bytes(lease.read()) == bytes(range(100, 128))
        lease.write(b"ab")
    assert setup.driver.memory[98:104] == bytes([98, 99, *b"ab", 102, 103])
    setup.regions.unregister("c")
    assert setup.driver.mapped == 0
    assert setup.regions.status("") == []


def test_cuda_is_loaded_with_the_first_region_and_once(setup: Setup) -> None:
    assert setup.loads == 0
    setup.regions.register("c", HANDLE, 1, 128)
    setup.regions.register("d", HANDLE, 1, 256)
    assert setup.loads == 1


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_handle_of_another_size_is_refused_before_cuda_sees_it(setup: Setup, size: int) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        setup.regions.register("c", b"h" * size, 1, 64)
    assert error.value.message == (
        f"failed to register shared memory region 'c': invalid args (raw_handle has {size} bytes, a CUDA "
        "handle has 64)"
    )
    assert setup.loads == 0


@pytest.mark.parametrize("byte_size", [0, -1, 257, 2**64])
def test_a_size_that_the_allocation_has_not_is_refused_and_unmapped(setup: Setup, byte_size: int) -> None:
    with pytest.raises(InvalidArgumentError, match="^failed to register shared memory region 'c': invalid a"):
        setup.regions.register("c", HANDLE, 1, byte_size)
    assert setup.driver.mapped == 0
    assert setup.regions.status("") == []


@pytest.mark.parametrize(("handle", "device"), [(b"x" * 64, 1), (HANDLE, 0)])
def test_a_handle_that_cuda_refuses_is_told_in_triton_s_words_and_logged_with_the_reason(
    setup: Setup, handle: bytes, device: int
) -> None:
    with capture_logs() as logs, pytest.raises(InvalidArgumentError) as error:
        setup.regions.register("c", handle, device, 64)
    assert error.value.message == "failed to register shared memory region: invalid args"
    assert logs[0]["reason"] == "cudaIpcOpenMemHandle failed: invalid argument (1)"


def test_without_cuda_the_answer_is_triton_s_and_the_log_has_the_reason() -> None:
    def missing() -> HostDriver:
        raise UnavailableError("CUDA is not usable: no library")

    regions = CudaRegions(RegionTable(10), missing)
    with capture_logs() as logs, pytest.raises(InvalidArgumentError) as error:
        regions.register("c", HANDLE, 0, 64)
    assert error.value.message == "failed to register shared memory region: invalid args"
    assert logs[0]["reason"] == "CUDA is not usable: no library"


def test_an_allocation_that_cannot_be_measured_is_unmapped(setup: Setup) -> None:
    setup.driver.extent_fails = True
    with pytest.raises(InvalidArgumentError, match="invalid args"):
        setup.regions.register("c", HANDLE, 1, 64)
    assert setup.driver.mapped == 0


def test_a_region_that_cannot_be_unmapped_is_forgotten_and_logged(setup: Setup) -> None:
    setup.driver.close_fails = True
    setup.regions.register("c", HANDLE, 1, 64)
    with capture_logs() as logs:
        setup.regions.unregister("")
    assert setup.regions.status("") == []
    assert "driver shutting down" in logs[0]["reason"]


def test_a_closed_region_is_not_touched(setup: Setup) -> None:
    setup.regions.register("c", HANDLE, 1, 64)
    lease = setup.table.lease("c", 0, 4)
    setup.table.close()
    with pytest.raises(InternalError, match="'c' is closed"):
        lease.read()
    assert setup.driver.mapped == 0


def test_status_of_an_unknown_region_is_not_found(setup: Setup) -> None:
    with pytest.raises(NotFoundError) as error:
        setup.regions.status("nope")
    assert error.value.message == "Unable to find cuda shared memory region: 'nope'"
