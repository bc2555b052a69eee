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
from naiad.services.shared_memory.table import Range, Region, flat_bytes

if TYPE_CHECKING:
    from naiad.core.tensors import Array
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


class _Descriptor:
    """A file descriptor, closed when nobody has it any more: also a read in another thread has it."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class SystemRange(Range):
    """A range of an open object, inside its region. May be used on any thread, for as long as it is kept."""

    def __init__(self, status: SystemRegionStatus, descriptor: _Descriptor, offset: int, size: int) -> None:
        super().__init__(status.name, size)
        self._status = status
        self._descriptor = descriptor
        self._start = status.offset + offset

    def read_into(self, target: Array) -> None:
        """Fill `target`, as many bytes as the range has, row by row.

        Raises:
            InvalidArgumentError: the client has made its object smaller than it registered.
            InternalError: the object cannot be read.
        """
        flat = flat_bytes(target)
        done = 0
        while done < flat.size:
            try:
                count = os.preadv(self._descriptor.number, [flat[done:].data], self._start + done)
            except OSError as error:
                raise self._failed("read", error) from error
            if count == 0:
                raise self._shrunk(self._start + done, self._start + flat.size)
            done += count

    def put(self, data: Bytes) -> None:
        """See `Range.put`; an object that has become too small is not extended."""
        try:
            size = os.fstat(self._descriptor.number).st_size
            if size < self._start + data.size:
                raise self._shrunk(size, self._start + data.size)
            done = 0
            while done < data.size:
                done += os.pwritev(self._descriptor.number, [data[done:].data], self._start + done)
        except OSError as error:
            raise self._failed("written", error) from error

    def _shrunk(self, size: int, needed: int) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"shared memory region '{self.name}' is no longer as large as it was registered: "
            f"'{self._status.key}' has {size} bytes and {needed} are needed"
        )

    def _failed(self, verb: str, error: OSError) -> InternalError:
        return InternalError(f"shared memory region '{self.name}' cannot be {verb}: {error.strerror}")


class SystemRegion(Region):
    """A range of an open object. Owns the descriptor, together with the ranges that are in use."""

    word = "system"
    title = "system"

    def __init__(self, status: SystemRegionStatus, descriptor: int) -> None:
        super().__init__(status.name, status.byte_size)
        self.status = status
        self._descriptor: _Descriptor | None = _Descriptor(descriptor)

    def range(self, offset: int, byte_size: int) -> SystemRange:
        """A part of it that outlives the region's `close`.

        Raises:
            InvalidArgumentError: it is not inside the region.
            InternalError: the region is closed.
        """
        self.check_range(offset, byte_size)
        if self._descriptor is None:
            raise InternalError(f"shared memory region '{self.name}' is closed")
        return SystemRange(self.status, self._descriptor, offset, byte_size)

    def read(self, offset: int, byte_size: int) -> Bytes:
        """A copy of `byte_size` bytes, uint8 `[byte_size]`.

        Raises:
            InvalidArgumentError: the range is not inside the region, or the object ends before it does.
            InternalError: the object cannot be read.
        """
        target = np.empty(byte_size, dtype=np.uint8)
        self.range(offset, byte_size).read_into(target)
        return target

    def write(self, offset: int, data: Bytes) -> None:
        """Copy `data`, uint8 `[n]`, to `offset`; an object that has become too small is not extended.

        Raises:
            InvalidArgumentError: the range is not inside the region, or the object ends before it does.
            InternalError: the object cannot be written.
        """
        self.range(offset, data.size).put(data)

    def close(self) -> None:
        """Let go of the descriptor, which is closed when no range needs it. Safe to call twice."""
        self._descriptor = None


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
