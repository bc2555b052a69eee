"""Shared memory by which tensors reach the process aside: an anonymous file that both processes map.

Nothing of it has a name in `/dev/shm`. Its size is sealed, so that neither side can cut it off under the
other; pages cost memory only once they have been written.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from naiad.core.errors import ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.core.tensors import Array, Tensors

TensorRef: TypeAlias = list[Any]
"""Where a tensor lies: its name, numpy's dtype (`bytes` for BYTES), shape, offset and size in bytes."""

KEPT_BYTES = 32 * 1024 * 1024
"""What a job takes beyond this is given back to the system when it is done."""

_ALIGNMENT = 64
_TEXTS = "bytes"
_LENGTH = struct.Struct("<I")
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Arena:
    """The serving process's side, which writes. Used by one thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.descriptor = os.memfd_create("naiad-aside", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._memory = mmap.mmap(self.descriptor, size)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._used = 0

    def write(self, tensors: Tensors) -> list[TensorRef]:
        """Copy tensors behind those that were written since `clear`; numpy holds no lock while it copies.

        Raises:
            ResourceExhaustedError: they do not fit.
        """
        return [self._write(name, array) for name, array in tensors.items()]

    def clear(self) -> None:
        """Forget what was written."""
        start = KEPT_BYTES
        if self._used > start:
            self._memory.madvise(mmap.MADV_REMOVE, start, self._used - start)
        self._used = 0

    def close(self) -> None:
        """Give the memory back. Safe to call twice."""
        if not self._memory.closed:
            self._memory.close()
            os.close(self.descriptor)

    def _write(self, name: str, array: Array) -> TensorRef:
        if array.dtype.hasobject:
            data = _joined(cast("Iterable[bytes]", array.ravel()))
            start = self._reserve(len(data))
            self._memory[start : start + len(data)] = data
            return [name, _TEXTS, list(array.shape), start, len(data)]
        start = self._reserve(array.nbytes)
        if array.nbytes:
            np.copyto(_view(self._memory, array.dtype, array.shape, start), array)
        return [name, array.dtype.str, list(array.shape), start, array.nbytes]

    def _reserve(self, size: int) -> int:
        start = -(-self._used // _ALIGNMENT) * _ALIGNMENT
        if start + size > self.size:
            raise ResourceExhaustedError(
                f"the job's tensors have {start + size} bytes or more, and at most {self.size} fit into the "
                "memory shared with the process aside"
            )
        self._used = start + size
        return start


class ArenaView:
    """The side of the process aside, which only reads."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)

    def read(self, refs: Iterable[TensorRef], *, copy: bool = False) -> dict[str, Array]:
        """The tensors, read-only and valid until the answer to their job is sent; or copies of them."""
        tensors = {name: self._read(*where) for name, *where in refs}
        return {name: array.copy() for name, array in tensors.items()} if copy else tensors

    def _read(self, dtype: str, shape: list[int], start: int, size: int) -> Array:
        if dtype == _TEXTS:
            return _split(self._memory[start : start + size], tuple(shape))
        return _view(self._memory, np.dtype(dtype), tuple(shape), start)


def _view(memory: mmap.mmap, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> Array:
    return np.ndarray(shape, dtype, buffer=memory, offset=start)


def _joined(texts: Iterable[bytes]) -> bytes:
    """Each text behind its length."""
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def _split(data: bytes, shape: tuple[int, ...]) -> Array:
    texts = np.empty(int(np.prod(shape)), dtype=np.object_)
    start = 0
    for index in range(texts.size):
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        texts[index] = data[start : start + length]
        start += length
    return texts.reshape(shape)
