"""System shared memory with a server of this machine: tensors go through it and not through gRPC."""

from __future__ import annotations

import mmap
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import EngineTimeoutError, NaiadError, ResourceExhaustedError, UnavailableError

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.runtime.remote.fleet import Host

_FOLDER = "/dev/shm"  # noqa: S108  # where shm_open finds its objects: it is the contract
_ALIGNMENT = 64
_PAGE = mmap.PAGESIZE
_FORGET_LIMIT_S = 2.0


class Region:
    """Memory that a server has registered. Of one thread; whoever made it closes it.

    The object has no name any more once the server has it open, so none is left behind if this process dies.
    """

    def __init__(self, host: Host, byte_size: int) -> None:
        """Create the memory and register it.

        Raises:
            UnavailableError, EngineTimeoutError: the server is not there, which says nothing of memory.
            NaiadError: there is no room for it, or the server does not take it, and why.
        """
        self.byte_size = -(-byte_size // _PAGE) * _PAGE
        self.name = f"naiad-{os.getpid()}-{secrets.token_hex(6)}"
        self._host = host
        self._map = self._create()
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def _create(self) -> mmap.mmap:
        path = f"{_FOLDER}/{self.name}"
        try:
            # Whoever runs the server under another user gets the same tensors by gRPC.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ResourceExhaustedError(f"{_FOLDER} cannot be written: {error.strerror}") from None
        try:
            # Not ftruncate: where /dev/shm is full, the process would be killed on the first write.
            os.posix_fallocate(descriptor, 0, self.byte_size)
            mapped = mmap.mmap(descriptor, self.byte_size)
            self._host.call(
                "SystemSharedMemoryRegister",
                pb.SystemSharedMemoryRegisterRequest(
                    name=self.name, key=f"/{self.name}", byte_size=self.byte_size
                ),
                pb.SystemSharedMemoryRegisterResponse,
            )
        except OSError as error:
            raise ResourceExhaustedError(
                f"{_FOLDER} has no room for {self.byte_size} bytes: {error.strerror}"
            ) from None
        finally:
            os.close(descriptor)
            os.unlink(path)  # noqa: PTH108  # a path of ours, made a few lines above
        return mapped

    def close(self) -> None:
        """Let the server forget it, if that is still there; the memory goes with the last view of it."""
        try:
            self._host.call(
                "SystemSharedMemoryUnregister",
                pb.SystemSharedMemoryUnregisterRequest(name=self.name),
                pb.SystemSharedMemoryUnregisterResponse,
                timeout_s=_FORGET_LIMIT_S,
            )
        except (NaiadError, ValueError):  # ValueError: the channel is closed already
            return


def try_sharing(host: Host) -> None:
    """Find out whether a server of this machine takes memory; if not, the host knows why from then on."""
    if host.shared_refusal:
        return
    try:
        Region(host, _PAGE).close()
    except (UnavailableError, EngineTimeoutError):
        return  # it is away for a moment: the first run that reaches it finds out
    except NaiadError as error:
        host.shared_refusal = error.message


class Layout(NamedTuple):
    """Where tensors of given sizes lie one after the other: their offsets, and the size of all."""

    offsets: tuple[int, ...]
    byte_size: int

    @classmethod
    def of(cls, sizes: tuple[int, ...]) -> Layout:
        """Tensors of `sizes` bytes, each at a multiple of 64."""
        offsets = []
        at = 0
        for size in sizes:
            offsets.append(at)
            at += -(-size // _ALIGNMENT) * _ALIGNMENT
        return cls(tuple(offsets), at)
