"""A session's inputs and outputs in fixed places, usually of a GPU's memory: bound once, run often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.core.errors import NaiadError
    from naiad.core.tensors import Array

NO_GRAPH = -1
"""A run that becomes no CUDA graph, by the engine's own word."""


class Place(NamedTuple):
    """Where a tensor lies: its address and shape there; a numpy dtype, or ONNX's number of one."""

    name: str
    address: int
    shape: tuple[int, ...]
    element_type: Any


class Binding(Protocol):
    """One shape of a session, its tensors in fixed places. `terminate` may come from another thread."""

    def run(self) -> None:
        """Run on what lies in the inputs' places, and wait until the outputs lie in theirs.

        Raises:
            CancelledError: `terminate` was called.
            NaiadError: as `Session.run`.
        """
        ...

    def read(self, name: str) -> Array:
        """A copy on the host of an output that has no place of its own, after a run."""
        ...

    def terminate(self) -> None:
        """End the run at work, or the next one, before its next node; a CUDA graph runs to its end."""
        ...

    def rearm(self) -> None:
        """Let runs go to their end again."""
        ...


class OnnxBinding:
    """A `Binding` of ONNX Runtime."""

    def __init__(
        self,
        engine: Any,
        options: Any,
        errors: tuple[type[Exception], ...],
        told: Callable[[Exception, Any], NaiadError],
    ) -> None:
        """Prepare.

        Args:
            engine: the `onnxruntime.InferenceSession`.
            options: the run options of all runs.
            errors: what the engine raises.
            told: one of those errors in our words.
        """
        self._engine = engine
        self._options = options
        self._errors = errors
        self._told = told
        self._free: list[str] = []
        self._order: list[str] = []
        self._device = ("cpu", 0)
        self._bound: Any = None

    def bind(self, inputs: Sequence[Place], outputs: Sequence[Place | str], device: tuple[str, int]) -> None:
        """Fix the places; see `OnnxSession.bind`."""
        try:
            self._bound = self._engine.io_binding()
            for place in inputs:
                self._bound.bind_input(place.name, *device, place.element_type, place.shape, place.address)
            for output in outputs:
                if not isinstance(output, str):
                    name, address, shape, element_type = output
                    self._bound.bind_output(name, *device, element_type, shape, address)
        except self._errors as error:
            raise self._told(error, self._options) from error
        self._free = [output for output in outputs if isinstance(output, str)]
        # The engine keeps them in the order in which they were first bound.
        self._order = [*(output.name for output in outputs if not isinstance(output, str)), *self._free]
        self._device = device

    def run(self) -> None:
        """See `Binding.run`."""
        try:
            for name in self._free:
                # Each time: the engine would take the last run's memory for one of the right shape.
                self._bound.bind_output(name, *self._device)
            self._engine.run_with_iobinding(self._bound, self._options)
        except self._errors as error:
            raise self._told(error, self._options) from error

    def read(self, name: str) -> Array:
        """See `Binding.read`."""
        try:
            value = self._bound.get_outputs()[self._order.index(name)]
            return np.array(value.numpy())
        except self._errors as error:
            raise self._told(error, self._options) from error

    def terminate(self) -> None:
        """See `Binding.terminate`."""
        self._options.terminate = True

    def rearm(self) -> None:
        """See `Binding.rearm`."""
        self._options.terminate = False
