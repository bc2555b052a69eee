"""The names of all registered regions, of either kind, and who is using them.

Everything but `Lease.read` and `Lease.write` belongs to the event loop's thread; those two may run on any
thread while the lease is held.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from naiad.core.errors import (
    AlreadyExistsError,
    CallerFaultError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Bytes = npt.NDArray[np.uint8]
Data = bytes | bytearray | memoryview | npt.NDArray[np.generic]
"""What can be written: anything that lies in memory row by row without gaps."""

MAX_LEASE_BYTES = 2**31 - 1
"""The largest tensor that may be read or written, as in a message; an object may claim any size for free."""

MAX_NAME_LENGTH = 1_024
"""Characters of a region's name, which is kept for as long as the region."""

UINT64_MAX = 2**64 - 1


class Range(ABC):
    """A part of a region that may be read and written on any thread, also after its lease was released.

    It is a `TensorSource` of an input of `byte_size` bytes.
    """

    def __init__(self, name: str, byte_size: int) -> None:
        self.name = name
        self.byte_size = byte_size

    @abstractmethod
    def read_into(self, target: npt.NDArray[np.generic]) -> None:
        """Fill `target`; see `TensorSource`."""

    @abstractmethod
    def put(self, data: Bytes) -> None:
        """Copy `data`, uint8 `[n]`, no more than the range has, to its start.

        Raises:
            InvalidArgumentError: the client has made its object smaller than it registered.
            InternalError: the memory cannot be written.
        """

    def write(self, data: Data) -> None:
        """Copy `data` to the start of the range; what lies behind it stays as it is.

        Raises:
            InvalidArgumentError, InternalError: as `put`.
            CallerFaultError: `data` is larger than the range.
        """
        flat = flat_bytes(data)
        if flat.size > self.byte_size:
            raise _too_large(flat.size, self.byte_size, self.name)
        self.put(flat)


class Region(ABC):
    """A named range of memory that a client shares.

    `word` and `title` are how messages call the kind. `read` and `write` refuse what is not inside the
    region and never touch it.
    """

    word: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, name: str, byte_size: int) -> None:
        self.name = name
        self.byte_size = byte_size

    @abstractmethod
    def read(self, offset: int, byte_size: int) -> Bytes:
        """A copy of `byte_size` bytes, uint8 `[byte_size]`."""

    @abstractmethod
    def write(self, offset: int, data: Bytes) -> None:
        """Copy `data`, uint8 `[n]`, to `offset`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the memory. Safe to call twice."""

    def range(self, offset: int, byte_size: int) -> Range | None:
        """A part that may be used without the region; None for a kind that must not be, once it is closed."""
        del offset, byte_size
        return None

    def check_range(self, offset: int, byte_size: int) -> None:
        """Raise InvalidArgumentError unless the range lies inside the region."""
        if offset < 0 or byte_size < 0 or offset + byte_size > self.byte_size:
            raise _outside(self.name)


RegionKind = TypeVar("RegionKind", bound=Region)


@dataclass(slots=True)
class _Entry:
    region: Region
    leases: int = 0
    unregistered: bool = False


class Lease:
    """A range of a region in use by one request: the region stays open until `release`."""

    __slots__ = ("_entry", "_offset", "_table", "byte_size")

    def __init__(self, table: RegionTable, entry: _Entry, offset: int, byte_size: int) -> None:
        self._table = table
        self._entry: _Entry | None = entry
        self._offset = offset
        self.byte_size = byte_size

    def read(self) -> memoryview:
        """A copy of the range: what the client writes later does not change it.

        Raises:
            InvalidArgumentError: the client has made its object smaller than it registered.
            InternalError: the memory cannot be read.
        """
        return self._region().read(self._offset, self.byte_size).data

    def write(self, data: Data) -> None:
        """Copy `data` to the start of the range; what lies behind it stays as it is.

        Raises:
            InvalidArgumentError: the client has made its object smaller than it registered.
            CallerFaultError: `data` is larger than the range.
            InternalError: the memory cannot be written.
        """
        flat = flat_bytes(data)
        region = self._region()
        if flat.size > self.byte_size:
            raise _too_large(flat.size, self.byte_size, region.name)
        region.write(self._offset, flat)

    def range(self) -> Range | None:
        """The same memory for use on another thread, which need not know when this is released.

        None where that cannot be: it must be read and written while it is leased then.
        """
        return self._region().range(self._offset, self.byte_size)

    def release(self) -> None:
        """Give the range back; a region that was unregistered meanwhile is closed. Safe to call twice."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._table.give_back(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _region(self) -> Region:
        if self._entry is None:
            raise InternalError("a released lease of shared memory was used")
        return self._entry.region


class RegionTable:
    """Name to region. System and CUDA regions share their names.

    Args:
        max_regions: how many may be registered at once.
    """

    def __init__(self, max_regions: int) -> None:
        self._max_regions = max_regions
        self._entries: dict[str, _Entry] = {}

    def check_free(self, name: str) -> None:
        """Check that a region of that name may be added.

        Raises:
            InvalidArgumentError: the name is too long.
            AlreadyExistsError: the name is taken, perhaps by a region that is unregistered and still in use.
            ResourceExhaustedError: there are as many regions as may be.
        """
        if len(name) > MAX_NAME_LENGTH:
            raise InvalidArgumentError(
                f"the name of a shared memory region has {len(name)} characters, at most {MAX_NAME_LENGTH} "
                "are taken"
            )
        if name in self._entries:
            raise AlreadyExistsError(f"shared memory region '{name}' already in manager")
        if len(self._entries) >= self._max_regions:
            raise ResourceExhaustedError(
                f"cannot register shared memory region '{name}': {len(self._entries)} regions are "
                f"registered and the maximum is {self._max_regions} (--max-shared-memory-regions)"
            )

    def add(self, region: Region) -> None:
        """Take the region in; `check_free` has been asked."""
        self._entries[region.name] = _Entry(region)

    def select(self, kind: type[RegionKind], name: str) -> list[RegionKind]:
        """The region of that name, or with "" all of the kind, in the order of registration.

        Raises:
            NotFoundError: no such region, or one of the other kind.
        """
        if not name:
            regions = (entry.region for entry in self._entries.values())
            return [region for region in regions if isinstance(region, kind)]
        entry = self._entries.get(name)
        if entry is None:
            raise NotFoundError(f"Unable to find {kind.word} shared memory region: '{name}'")
        region = entry.region
        if not isinstance(region, kind):
            raise NotFoundError(
                f"The region named '{name}' is registered as {region.title} shared memory, not {kind.title} "
                "shared memory"
            )
        return [region]

    def unregister(self, kind: type[Region], name: str) -> None:
        """Remove the region of that name, or with "" all of the kind; others are left alone.

        A region in use is leased no more, and removed when its last lease is released.
        """
        for entry in list(self._entries.values()):
            if isinstance(entry.region, kind) and name in ("", entry.region.name):
                entry.unregistered = True
                self._remove_unused(entry)

    def lease(self, name: str, offset: int, byte_size: int) -> Lease:
        """Take `byte_size` bytes at `offset` of a region into use.

        Negative numbers are read as the unsigned ones of 64 bits that Triton makes of them.

        Raises:
            NotFoundError: no such region, or it is unregistered.
            InvalidArgumentError: the range is empty or not inside the region.
            ResourceExhaustedError: the range is larger than a tensor may be.
        """
        entry = self._entries.get(name)
        if entry is None or entry.unregistered:
            raise NotFoundError(f"Unable to find shared memory region: '{name}'")
        _check_lease(entry.region, _unsigned(offset), _unsigned(byte_size))
        entry.leases += 1
        return Lease(self, entry, offset, byte_size)

    def give_back(self, entry: _Entry) -> None:
        """Count one lease of the entry less."""
        entry.leases -= 1
        self._remove_unused(entry)

    def close(self) -> None:
        """Close every region, leased or not."""
        for entry in self._entries.values():
            entry.region.close()
        self._entries.clear()

    def _remove_unused(self, entry: _Entry) -> None:
        if entry.unregistered and entry.leases == 0:
            self._entries.pop(entry.region.name, None)
            entry.region.close()


def flat_bytes(data: Data) -> Bytes:
    """The bytes of `data`, uint8 `[n]`, without a copy where it lies in memory row by row."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, dtype=np.uint8)


def _check_lease(region: Region, offset: int, byte_size: int) -> None:
    if offset >= region.byte_size:
        raise InvalidArgumentError(f"Invalid offset for shared memory region: '{region.name}'")
    if offset + byte_size > UINT64_MAX:
        raise InvalidArgumentError(
            f"Integer overflow detected: byte_size ({byte_size}) + offset ({offset}) exceeds maximum value "
            f"({UINT64_MAX}) for region '{region.name}'"
        )
    if byte_size == 0 or offset + byte_size > region.byte_size:
        raise _outside(region.name)
    if byte_size > MAX_LEASE_BYTES:
        raise ResourceExhaustedError(
            f"{byte_size} bytes of shared memory region '{region.name}' are asked for at once and the "
            f"maximum for one tensor is {MAX_LEASE_BYTES}"
        )


def _too_large(size: int, limit: int, name: str) -> CallerFaultError:
    return CallerFaultError(
        f"{size} bytes do not fit the {limit} bytes asked for of shared memory region '{name}'"
    )


def _outside(name: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Invalid offset + byte size for shared memory region: '{name}'")


def _unsigned(value: int) -> int:
    return value + UINT64_MAX + 1 if value < 0 else value
