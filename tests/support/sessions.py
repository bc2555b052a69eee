"""Sessions that tests steer: the one seam at which the engine is replaced."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array, Tensors

POISON = -1.0
"""A value of INPUT0 that makes a DoublingSession's run fail, as an index out of range would."""


class DoublingSession:
    """OUTPUT0 = 2 * INPUT0 over FP32 `[N, 2]`; remembers the batch sizes it ran."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.closed = False

    def inputs(self) -> Sequence[TensorSpec]:
        """One FP32 input."""
        return (TensorSpec("INPUT0", DataType.FP32, (-1, 2)),)

    def outputs(self) -> Sequence[TensorSpec]:
        """One FP32 output."""
        return (TensorSpec("OUTPUT0", DataType.FP32, (-1, 2)),)

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Double; fails on POISON."""
        array = inputs["INPUT0"]
        self.batches.append(len(array))
        if np.any(array == POISON):
            raise InvalidArgumentError("the graph does not take this value")
        return dict.fromkeys(outputs, array * 2)

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class GatedSession(DoublingSession):
    """A DoublingSession whose every run waits until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self._started = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)
        self.open_for_all = False

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Say that a run began, wait for `let_go`, double."""
        self._started.release()
        if not self.open_for_all:
            self._gate.acquire()
        return super().run(inputs, outputs)

    async def run_began(self) -> None:
        """Wait until one more run has begun."""
        await asyncio.to_thread(self._started.acquire)

    def let_go(self, runs: int = 1) -> None:
        """Let that many runs go on."""
        self._gate.release(runs)

    def open(self) -> None:
        """Let this and every further run go on."""
        self.open_for_all = True
        self._gate.release(1_000)
