"""A GPU that is not one: buffers in plain memory, so that the benchmark's way can be gone on any machine."""

from __future__ import annotations

import ctypes


class HostDriver:
    """A driver (see `naiad.runtime.cuda.driver`) whose device is the host; the engine calls it `cpu`."""

    device_name = "cpu"
    device_id = 0

    def __init__(self) -> None:
        self._held: dict[int, object] = {}

    def enter(self) -> None:
        """Nothing."""

    def allocate_pinned(self, size: int) -> int:
        """Plain memory."""
        memory = ctypes.create_string_buffer(max(1, size))
        self._held[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    allocate_device = allocate_pinned

    def free_pinned(self, address: int) -> None:
        """Give it back."""
        del self._held[address]

    free_device = free_pinned

    def open_stream(self) -> int:
        """There are none."""
        return 0

    def close_stream(self, stream: int) -> None:
        """There are none."""

    def to_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy at once."""
        del stream
        ctypes.memmove(target, source, size)

    to_host = to_device

    def synchronize(self, stream: int) -> None:
        """There is nothing to wait for."""
