"""A GPU for tests on the CPU: its memory is the host's, and the engine binds it as such."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import ResourceExhaustedError
from naiad.core.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.core.tensors import Array, Tensors
    from naiad.runtime.onnx_binding import Place


@dataclass
class HostDriver:
    """A `Driver` on plain memory. `held` are the addresses and streams that nobody has given back."""

    device_name: str = "cpu"
    device_id: int = 0
    most_bytes: int = 2**30
    held: dict[int, object] = field(default_factory=dict)
    copied: list[tuple[str, int]] = field(default_factory=list)
    entered: set[int] = field(default_factory=set)
    _streams: int = 0
    _waiting: list[tuple[int, int, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> None:
        """Remember the thread."""
        self.entered.add(threading.get_ident())

    def allocate_pinned(self, size: int) -> int:
        """Plain memory."""
        return self._allocate(size)

    def free_pinned(self, address: int) -> None:
        """Fails for what is not held."""
        del self.held[address]

    def allocate_device(self, size: int) -> int:
        """Plain memory."""
        return self._allocate(size)

    def free_device(self, address: int) -> None:
        """Fails for what is not held."""
        del self.held[address]

    def open_stream(self) -> int:
        """A number."""
        self._streams += 1
        self.held[self._streams] = "stream"
        return self._streams

    def close_stream(self, stream: int) -> None:
        """Fails for what is not held."""
        del self.held[stream]

    def to_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Copies only when the stream is synchronised."""
        self._copy("up", target, source, size, stream)

    def to_host(self, target: int, source: int, size: int, stream: int) -> None:
        """Copies only when the stream is synchronised."""
        self._copy("down", target, source, size, stream)

    def synchronize(self, stream: int) -> None:
        """Do all copies that were begun."""
        assert self.held[stream] == "stream"
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for target, source, size in waiting:
            ctypes.memmove(target, source, size)

    def _copy(self, way: str, target: int, source: int, size: int, stream: int) -> None:
        assert self.held[stream] == "stream"
        with self._lock:
            self.copied.append((way, size))
            self._waiting.append((target, source, size))

    def _allocate(self, size: int) -> int:
        if size > self.most_bytes:
            raise ResourceExhaustedError("GPU 0: cudaMalloc failed: out of memory (2)")
        memory = ctypes.create_string_buffer(b"\xff" * size, size + 1)
        self.most_bytes -= size
        self.held[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)


class DoublingBinding:
    """OUTPUT0 = 2 * INPUT0 on bound addresses."""

    def __init__(self, engine: DoublingEngine, source: Place, target: Place, graph: int) -> None:
        self._engine = engine
        self._source = source
        self._target = target
        self._graph = graph
        self._captured: Array | None = None
        self.terminated = False

    def run(self) -> None:
        """Double, or what a broken graph does instead."""
        engine = self._engine
        engine.run_began(self._source.shape[0], self._graph)
        source, target = view_of(self._source), view_of(self._target)
        if self._graph < 1 or not engine.stale_graphs:
            target[:] = source * 2
            return
        if self._captured is None:
            self._captured = source * 2
        target[:] = self._captured

    def read(self, name: str) -> Array:
        """Nothing is free here."""
        raise AssertionError(name)

    def terminate(self) -> None:
        """Remember it."""
        self.terminated = True

    def rearm(self) -> None:
        """Forget it."""
        self.terminated = False


class PlainDoubling:
    """The engine's runs that are not bound."""

    def __init__(self, engine: DoublingEngine) -> None:
        self._engine = engine

    def inputs(self) -> Sequence[TensorSpec]:
        """Those of the engine."""
        return self._engine.inputs()

    def outputs(self) -> Sequence[TensorSpec]:
        """Those of the engine."""
        return self._engine.outputs()

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Double."""
        self._engine.run_began(len(inputs["INPUT0"]), -1)
        return dict.fromkeys(outputs, inputs["INPUT0"] * 2)

    def terminate(self) -> None:
        """Nothing: it never takes long."""

    def rearm(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class DoublingEngine:
    """An engine of OUTPUT0 = 2 * INPUT0 over FP32 `[N, width]`; remembers (rows, graph) of each run.

    `at_run` is called in each run, on the thread that runs it, and may fail or wait.
    """

    def __init__(
        self,
        *,
        captures: bool = False,
        width: int = 2,
        stale_graphs: bool = False,
        at_run: Callable[[int, int], None] = lambda _rows, _graph: None,
    ) -> None:
        self.captures = captures
        self.stale_graphs = stale_graphs
        self.runs: list[tuple[int, int]] = []
        self.threads: set[int] = set()
        self.closed = 0
        self._width = width
        self._at_run = at_run

    def inputs(self) -> Sequence[TensorSpec]:
        """One FP32 input."""
        return (TensorSpec("INPUT0", DataType.FP32, (-1, self._width)),)

    def outputs(self) -> Sequence[TensorSpec]:
        """One FP32 output."""
        return (TensorSpec("OUTPUT0", DataType.FP32, (-1, self._width)),)

    def bind(
        self, inputs: Sequence[Place], outputs: Sequence[Place | str], device: tuple[str, int], graph: int
    ) -> DoublingBinding:
        """Bind one input and one output."""
        [source], [target] = inputs, outputs
        assert not isinstance(target, str)
        return DoublingBinding(self, source, target, graph)

    def for_instance(self) -> PlainDoubling:
        """Runs that are not bound."""
        return PlainDoubling(self)

    def run_began(self, rows: int, graph: int) -> None:
        """Remember the run."""
        self.runs.append((rows, graph))
        self.threads.add(threading.get_ident())
        self._at_run(rows, graph)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def view_of(place: Place) -> Array:
    """The array at an address."""
    size = int(np.prod(place.shape)) * np.dtype(place.element_type).itemsize
    memory = memoryview((ctypes.c_char * size).from_address(place.address)).cast("B")
    array: Array = np.frombuffer(memory, dtype=place.element_type).reshape(place.shape)
    return array
