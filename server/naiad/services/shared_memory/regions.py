"""Shared memory for the services: one door to both registers, and the leases of inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import UnsupportedError
from naiad.services.shared_memory.cuda import CudaRegions
from naiad.services.shared_memory.cuda_driver import load_cuda
from naiad.services.shared_memory.system import SHM_FOLDER, SystemRegions
from naiad.services.shared_memory.table import Lease, RegionTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from naiad.services.shared_memory.cuda import CudaDriver, CudaRegionStatus
    from naiad.services.shared_memory.system import SystemRegionStatus

__all__ = ["DEFAULT_MAX_REGIONS", "Lease", "Regions"]

DEFAULT_MAX_REGIONS = 1_000
"""Registered regions; each system region holds one file descriptor."""


class Regions:
    """Every region that clients have registered. Used on the event loop's thread.

    Args:
        allow_client_shm: whether clients may register and unregister regions.
        max_regions: regions of both kinds that may be registered at once.
        load_cuda_driver: gives CUDA when the first CUDA region is registered.
        folder: where system shared memory objects lie.
    """

    def __init__(
        self,
        *,
        allow_client_shm: bool,
        max_regions: int = DEFAULT_MAX_REGIONS,
        load_cuda_driver: Callable[[], CudaDriver] = load_cuda,
        folder: Path = SHM_FOLDER,
    ) -> None:
        self._allowed = allow_client_shm
        self._table = RegionTable(max_regions)
        self._system = SystemRegions(self._table, folder=folder)
        self._cuda = CudaRegions(self._table, load_cuda_driver)

    def register_system(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """See `SystemRegions.register`.

        Raises:
            UnsupportedError: clients may not register regions here.
        """
        self._check_allowed()
        self._system.register(name, key, offset, byte_size)

    def unregister_system(self, name: str) -> None:
        """See `SystemRegions.unregister`.

        Raises:
            UnsupportedError: clients may not register regions here.
        """
        self._check_allowed()
        self._system.unregister(name)

    def system_status(self, name: str) -> list[SystemRegionStatus]:
        """See `SystemRegions.status`."""
        return self._system.status(name)

    def register_cuda(self, name: str, raw_handle: bytes, device_id: int, byte_size: int) -> None:
        """See `CudaRegions.register`.

        Raises:
            UnsupportedError: clients may not register regions here.
        """
        self._check_allowed()
        self._cuda.register(name, raw_handle, device_id, byte_size)

    def unregister_cuda(self, name: str) -> None:
        """See `CudaRegions.unregister`.

        Raises:
            UnsupportedError: clients may not register regions here.
        """
        self._check_allowed()
        self._cuda.unregister(name)

    def cuda_status(self, name: str) -> list[CudaRegionStatus]:
        """See `CudaRegions.status`."""
        return self._cuda.status(name)

    def lease(self, name: str, offset: int, byte_size: int) -> Lease:
        """Take `byte_size` bytes at `offset` of a region of either kind into use.

        Raises:
            NotFoundError: no such region, or it is unregistered.
            InvalidArgumentError: the range is empty or not inside the region.
            ResourceExhaustedError: the range is larger than a tensor may be.
        """
        return self._table.lease(name, offset, byte_size)

    def close(self) -> None:
        """Close every region. Call it when no inference runs any more."""
        self._table.close()

    def _check_allowed(self) -> None:
        if not self._allowed:
            raise UnsupportedError(
                "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
            )
