"""System shared memory: regions of the objects that clients create under `/dev/shm`.

Regions are read and written through the file and never mapped: a client that makes a mapped object smaller
kills the process that touches it, and one that writes while a mapping is checked changes what was checked.
"""

from __future__ import annotations

import mmap
import os
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import structlog

from naiad.core.errors import CallerFaultError, InternalError, InvalidArgumentError, ResourceExhaustedError
from naiad.services.shared_memory.table import Region

if TYPE_CHECKING:
    from naiad.services.shared_memory.table import Bytes, RegionTable

SHM_FOLDER = Path("/dev/shm")  # noqa: S108  # where shm_open finds its objects: it is the contract
RESERVED_PREFIX = "triton_python_backend_shm_region_"
"""Objects of Triton's own backends: no client may reach into them."""

_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

log = structlog.get_logger(__name__)


class SystemRegionStatus(NamedTuple):
    """A registered region; `offset` and `byte_size` in bytes of the object `key`."""

    name: str
    key: str
    offset: int
    byte_size: int


class SystemRegion(Region):
    """A range of an open object. Owns the descriptor."""

    word = "system"
    title = "system"

    def __init__(self, status: SystemRegionStatus, descriptor: int) -> None:
        super().__init__(status.name, status.byte_size)
        self.status = status
        self._descriptor = descriptor

    def read(self, offset: int, byte_size: int) -> Bytes:
        """A copy of `byte_size` bytes, uint8 `[byte_size]`.

        Raises:
            InvalidArgumentError: the range is not inside the region, or the object ends before it does.
            InternalError: the object cannot be read.
        """
        self.check_range(offset, byte_size)
        start = self.status.offset + offset
        target = np.empty(byte_size, dtype=np.uint8)
        done = 0
        while done < byte_size:
            try:
                count = os.preadv(self._descriptor, [target[done:].data], start + done)
            except OSError as error:
                raise self._failed("read", error) from error
            if count == 0:
                raise self._shrunk(start + done, start + byte_size)
            done += count
        return target

    def write(self, offset: int, data: Bytes) -> None:
        """Copy `data`, uint8 `[n]`, to `offset`; an object that has become too small is not extended.

        Raises:
            InvalidArgumentError: the range is not inside the region, or the object ends before it does.
            InternalError: the object cannot be written.
        """
        self.check_range(offset, data.size)
        start = self.status.offset + offset
        try:
            size = os.fstat(self._descriptor).st_size
            if size < start + data.size:
                raise self._shrunk(size, start + data.size)
            done = 0
            while done < data.size:
                done += os.pwritev(self._descriptor, [data[done:].data], start + done)
        except OSError as error:
            raise self._failed("written", error) from error

    def close(self) -> None:
        """Close the descriptor. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _shrunk(self, size: int, needed: int) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"shared memory region '{self.name}' is no longer as large as it was registered: "
            f"'{self.status.key}' has {size} bytes and {needed} are needed"
        )

    def _failed(self, verb: str, error: OSError) -> InternalError:
        return InternalError(f"shared memory region '{self.name}' cannot be {verb}: {error.strerror}")


class SystemRegions:
    """The register of system shared memory.

    Args:
        table: the names, shared with the other kind.
        folder: where the objects lie.
    """

    def __init__(self, table: RegionTable, *, folder: Path = SHM_FOLDER) -> None:
        self._table = table
        self._folder = folder

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open the object `key` and take `byte_size` bytes at `offset` as the region `name`.

        Raises:
            InvalidArgumentError: the key is not allowed, the range is empty or not inside the object, or
                `offset` is no multiple of a page.
            AlreadyExistsError: the name is taken.
            ResourceExhaustedError: there are as many regions as may be, or no descriptors to spare for one.
            CallerFaultError: there is no such object, or it may not be opened.
        """
        _check_key(name, key)
        self._table.check_free(name)
        descriptor = _open(self._folder, key)
        try:
            _check_descriptor(name, descriptor)
            _check_object(name, os.fstat(descriptor).st_size, offset, byte_size)
        except BaseException:
            os.close(descriptor)
            raise
        self._table.add(SystemRegion(SystemRegionStatus(name, key, offset, byte_size), descriptor))

    def unregister(self, name: str) -> None:
        """Forget the region, or with "" every one; an unknown name is no error.

        A region in use is forgotten when its last lease is released.
        """
        self._table.unregister(SystemRegion, name)

    def status(self, name: str) -> list[SystemRegionStatus]:
        """The region, or with "" every one.

        Raises:
            NotFoundError: no system region of that name.
        """
        return [region.status for region in self._table.select(SystemRegion, name)]


def _check_key(name: str, key: str) -> None:
    bare = key.lstrip("/")
    if key and not bare:
        raise InvalidArgumentError(f"cannot register shared memory region '{name}' - invalid shm key '{key}'")
    if bare.startswith(RESERVED_PREFIX):
        raise InvalidArgumentError(
            f"cannot register shared memory region '{name}' with key '{key}' as the key contains the "
            f"reserved prefix '{RESERVED_PREFIX}'"
        )


def _open(folder: Path, key: str) -> int:
    """A descriptor of the object; every reason not to have one is told in the same words."""
    bare = key.lstrip("/")
    refused = CallerFaultError(f"Unable to open shared memory region: '{key}'")
    if "/" in bare or bare in ("", ".", ".."):
        raise refused
    try:
        descriptor = os.open(folder / bare, _OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a NUL or half a surrogate pair in the key
        log.debug("shared memory object not opened", key=key, reason=str(error), who="client")
        raise refused from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refused
    return descriptor


def _check_descriptor(name: str, descriptor: int) -> None:
    """Leave half of the process's descriptors to connections and files: without one nobody is answered."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit // 2 <= descriptor:  # the lowest that is free is taken; a negative limit is none
        raise ResourceExhaustedError(
            f"cannot register shared memory region '{name}': half of the {limit} files that the process may "
            "open are in use (ulimit -n)"
        )


def _check_object(name: str, size: int, offset: int, byte_size: int) -> None:
    problem = f"failed to register shared memory region '{name}': "
    if offset < 0 or byte_size < 0 or offset + byte_size > size:
        raise InvalidArgumentError(f"{problem}invalid args")
    # We do not map, and could take both; Triton cannot, and clients find out here rather than there.
    if byte_size == 0 or offset % mmap.PAGESIZE:
        raise InvalidArgumentError(f"{problem}unable to process address spaceInvalid argument")
