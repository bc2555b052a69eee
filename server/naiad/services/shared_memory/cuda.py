"""CUDA shared memory: allocations that a client on this machine shares by a handle of 64 bytes.

Tensors are copied between the allocation and host memory; the copy is what is checked and run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import structlog

from naiad.core.errors import InternalError, InvalidArgumentError, NaiadError
from naiad.services.shared_memory.table import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.services.shared_memory.table import Bytes, RegionTable

HANDLE_BYTES = 64
"""The size of a `cudaIpcMemHandle_t`."""

log = structlog.get_logger(__name__)


class CudaDriver(Protocol):
    """What is needed of CUDA. Pointers are addresses on `device`; every method raises NaiadError."""

    def open(self, handle: bytes, device: int) -> int:
        """Map the allocation behind the handle and give its address."""
        ...

    def extent(self, pointer: int, device: int) -> int:
        """Bytes from `pointer` to the end of its allocation."""
        ...

    def copy_to_host(self, target: Bytes, pointer: int, device: int) -> None:
        """Fill `target`, uint8 `[n]`, from `pointer`."""
        ...

    def copy_to_device(self, pointer: int, source: Bytes, device: int) -> None:
        """Copy `source`, uint8 `[n]`, to `pointer`, and wait until every process can see it."""
        ...

    def close(self, pointer: int, device: int) -> None:
        """Unmap what `open` mapped."""
        ...


class CudaRegionStatus(NamedTuple):
    """A registered region of `byte_size` bytes on the GPU `device_id`."""

    name: str
    device_id: int
    byte_size: int


class CudaRegion(Region):
    """A mapped allocation. Owns the mapping."""

    word = "cuda"
    title = "CUDA"

    def __init__(self, status: CudaRegionStatus, pointer: int, driver: CudaDriver) -> None:
        super().__init__(status.name, status.byte_size)
        self.status = status
        self._pointer = pointer
        self._driver: CudaDriver | None = driver

    def read(self, offset: int, byte_size: int) -> Bytes:
        """A copy in host memory, uint8 `[byte_size]`.

        Raises:
            InvalidArgumentError: the range is not inside the region.
            InternalError: CUDA failed, or the region is closed.
        """
        self.check_range(offset, byte_size)
        target = np.empty(byte_size, dtype=np.uint8)
        self._opened().copy_to_host(target, self._pointer + offset, self.status.device_id)
        return target

    def write(self, offset: int, data: Bytes) -> None:
        """Copy `data`, uint8 `[n]`, to `offset`.

        Raises:
            InvalidArgumentError: the range is not inside the region.
            InternalError: CUDA failed, or the region is closed.
        """
        self.check_range(offset, data.size)
        self._opened().copy_to_device(self._pointer + offset, data, self.status.device_id)

    def close(self) -> None:
        """Unmap the allocation; what CUDA says against it is logged. Safe to call twice."""
        driver, self._driver = self._driver, None
        if driver is not None:
            _close(driver, self._pointer, self.status)

    def _opened(self) -> CudaDriver:
        if self._driver is None:
            raise InternalError(f"shared memory region '{self.name}' is closed")
        return self._driver


class CudaRegions:
    """The register of CUDA shared memory.

    Args:
        table: the names, shared with the other kind.
        load_driver: gives CUDA, or raises NaiadError with the reason; called when first needed, so that a
            server without CUDA regions loads nothing.
    """

    def __init__(self, table: RegionTable, load_driver: Callable[[], CudaDriver]) -> None:
        self._table = table
        self._load_driver = load_driver
        self._driver: CudaDriver | None = None

    def register(self, name: str, raw_handle: bytes, device_id: int, byte_size: int) -> None:
        """Map the allocation behind `raw_handle` and take its first `byte_size` bytes as the region `name`.

        Raises:
            InvalidArgumentError: the handle is none, names nothing on that device, or the allocation is
                smaller than `byte_size`; also where there is no GPU or CUDA to ask.
            AlreadyExistsError: the name is taken.
            ResourceExhaustedError: there are as many regions as may be.
        """
        self._table.check_free(name)
        problem = f"failed to register shared memory region '{name}': invalid args"
        if len(raw_handle) != HANDLE_BYTES:
            raise InvalidArgumentError(
                f"{problem} (raw_handle has {len(raw_handle)} bytes, a CUDA handle has {HANDLE_BYTES})"
            )
        if byte_size < 1:
            raise InvalidArgumentError(f"{problem} (byte_size is {byte_size}, must be at least 1)")
        status = CudaRegionStatus(name, device_id, byte_size)
        driver, pointer = self._open(raw_handle, status)
        try:
            extent = driver.extent(pointer, device_id)
        except NaiadError as error:
            _close(driver, pointer, status)
            log.warning("CUDA region not measured", region=name, reason=error.message, who="client")
            raise InvalidArgumentError(problem) from error
        if byte_size > extent:
            _close(driver, pointer, status)
            raise InvalidArgumentError(problem)
        self._table.add(CudaRegion(status, pointer, driver))

    def unregister(self, name: str) -> None:
        """Forget the region, or with "" every one; an unknown name is no error.

        A region in use is forgotten when its last lease is released.
        """
        self._table.unregister(CudaRegion, name)

    def status(self, name: str) -> list[CudaRegionStatus]:
        """The region, or with "" every one.

        Raises:
            NotFoundError: no CUDA region of that name.
        """
        return [region.status for region in self._table.select(CudaRegion, name)]

    def _open(self, raw_handle: bytes, status: CudaRegionStatus) -> tuple[CudaDriver, int]:
        try:
            if self._driver is None:
                self._driver = self._load_driver()
            return self._driver, self._driver.open(raw_handle, status.device_id)
        except NaiadError as error:
            # The caller gets Triton's words; the reason is the operator's to read.
            log.warning(
                "CUDA region not opened",
                region=status.name,
                device=status.device_id,
                reason=error.message,
                who="operator",
            )
            raise InvalidArgumentError("failed to register shared memory region: invalid args") from error


def _close(driver: CudaDriver, pointer: int, status: CudaRegionStatus) -> None:
    try:
        driver.close(pointer, status.device_id)
    except NaiadError as error:
        log.warning("CUDA region not closed", region=status.name, reason=error.message, who="operator")
