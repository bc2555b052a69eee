"""A lane: a place to run a batch on a GPU's session, with buffers and a copy stream of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from naiad.runtime.buckets import Buckets
from naiad.runtime.cuda.buffers import LaneBuffers
from naiad.runtime.cuda.progress import LaneProgress, LaneState
from naiad.runtime.onnx_binding import NO_GRAPH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from naiad.core.tensors import Array, Tensors, TensorSpec
    from naiad.runtime.cuda.compute import ComputeThread
    from naiad.runtime.cuda.driver import Driver
    from naiad.runtime.cuda.plan import BindingPlan
    from naiad.runtime.onnx_binding import Binding, Place
    from naiad.runtime.session import TerminableSession


class Engine(Protocol):
    """What lanes need of an opened session: `OnnxSession`, or a test's fake."""

    captures: bool

    def inputs(self) -> Sequence[TensorSpec]:
        """As `Session.inputs`."""
        ...

    def outputs(self) -> Sequence[TensorSpec]:
        """As `Session.outputs`."""
        ...

    def bind(
        self, inputs: Sequence[Place], outputs: Sequence[Place | str], device: tuple[str, int], graph: int
    ) -> Binding:
        """Fix where the tensors lie for all further runs of one shape."""
        ...

    def for_instance(self) -> TerminableSession:
        """The session for runs that are not bound."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Lane:
    """One of the lanes of an instance: a `TerminableSession` with `BatchSlots`.

    While another lane's batch runs, this one gathers and copies its own, and takes its outputs back. Batches
    of shapes that are not bound are copied by the engine, and run in turn with the others.
    """

    def __init__(
        self,
        engine: Engine,
        compute: ComputeThread,
        *,
        driver: Driver | None = None,
        plan: BindingPlan | None = None,
        new_graph: Callable[[], int] | None = None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        """Create a lane.

        Args:
            engine: the instance's session, which all its lanes share.
            compute: the thread that runs it.
            driver: the GPU's; needed with a plan.
            plan: what is bound; None if nothing is.
            new_graph: gives a number to each CUDA graph; None if runs become none.
            closed: called once when the lane is closed.

        Raises:
            ResourceExhaustedError: there is not enough memory for its buffers.
        """
        self._engine = engine
        self._compute = compute
        self._plan = plan
        self._new_graph = new_graph
        self._closed = closed
        self._progress = LaneProgress()
        self._was_bound = True
        self._plain = engine.for_instance()
        self._driver = driver
        self._buffers: LaneBuffers | None = None
        self._bindings: dict[int, Binding] = {}
        self._buckets = Buckets(plan.sizes if plan is not None and plan.batched else ())
        if plan is not None and driver is not None:
            self._buffers = LaneBuffers(driver, plan)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that are bound; empty if none is, or the model has no batches."""
        return self._buckets.sizes

    @property
    def plan_sizes(self) -> tuple[int, ...]:
        """The batch sizes that are bound; 1 alone for a model without batches."""
        return () if self._plan is None else self._plan.sizes

    def inputs(self) -> Sequence[TensorSpec]:
        """Those of the session."""
        return self._engine.inputs()

    def outputs(self) -> Sequence[TensorSpec]:
        """Those of the session."""
        return self._engine.outputs()

    def bucket_for(self, rows: int) -> int:
        """See `BatchSlots.bucket_for`."""
        return self._buckets.bucket_for(rows) if self._was_bound else rows

    def slot(
        self, name: str, rows: int, row_shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Array | None:
        """See `BatchSlots.slot`."""
        if self._buffers is None or name not in self._buffers.inputs:
            return None
        buffer = self._buffers.inputs[name]
        host = buffer.host
        if not buffer.tensor.batched or rows > len(host) or dtype != host.dtype:
            return None
        if math.prod(row_shape) != math.prod(buffer.tensor.row):
            return None
        return host[:rows].reshape((rows, *row_shape))

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Session.run`.

        Raises:
            CancelledError: it was terminated.
            UnavailableError: the lane is closed.
        """
        if not outputs:
            return {}
        self._progress.advance(LaneState.FILLING)
        try:
            rows = self._rows(inputs)
            self._was_bound = rows is not None
            if rows is None:
                return self._run_plain(inputs, outputs)
            return self._run_bound(inputs, outputs, rows)
        finally:
            self._progress.end()

    def run_plain(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """The same without the buffers, to compare with."""
        self._progress.advance(LaneState.FILLING)
        try:
            return self._run_plain(inputs, outputs)
        finally:
            self._progress.end()

    def spare(self) -> Lane:
        """One more lane, without buffers, for runs beside the traffic; it lives no longer than this one."""
        return Lane(self._engine, self._compute)

    def terminate(self) -> None:
        """See `TerminableSession.terminate`; a CUDA graph at work runs to its end."""
        self._progress.terminate()
        self._plain.terminate()
        for binding in list(self._bindings.values()):
            binding.terminate()

    def rearm(self) -> None:
        """See `TerminableSession.rearm`."""
        self._progress.rearm()
        self._plain.rearm()
        for binding in self._bindings.values():
            binding.rearm()

    def close(self) -> None:
        """Free the buffers. Safe to call twice."""
        if not self._progress.close():
            return
        self._bindings.clear()
        if self._buffers is not None:
            self._buffers.close()
        self._closed()

    def _rows(self, inputs: Tensors) -> int | None:
        """The batch's rows, None if it does not fit what is bound."""
        if self._buffers is None or len(inputs) != len(self._buffers.inputs):
            return None
        rows: int | None = None
        for name, buffer in self._buffers.inputs.items():
            array = inputs.get(name)
            if array is None or array.dtype != buffer.host.dtype:
                return None
            count = len(array) if buffer.tensor.batched and array.ndim else 1
            if array.shape != buffer.tensor.shape(count) or rows not in (None, count):
                return None
            rows = count
        assert self._plan is not None
        return rows if rows is not None and 0 < rows <= self._plan.largest else None

    def _run_plain(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        return self._in_turn(lambda: self._plain.run(inputs, outputs))

    def _run_bound(self, inputs: Tensors, outputs: Sequence[str], rows: int) -> dict[str, Array]:
        assert self._buffers is not None
        assert self._driver is not None
        bucket = self._buckets.bucket_for(rows)
        self._driver.enter()
        for name, buffer in self._buffers.inputs.items():
            array = inputs[name]
            if not buffer.holds(array):
                buffer.view(rows)[...] = array
            if rows < bucket:
                # Zeros may be what a graph refuses; a row of the batch is a valid one, or it fails anyway.
                buffer.host[rows:bucket] = buffer.host[0]
        self._buffers.upload(bucket)
        binding = self._bindings.get(bucket) or self._bind(bucket)
        self._in_turn(lambda: self._run_binding(binding))
        free = {name: binding.read(name) for name in outputs if name not in self._buffers.outputs}
        found = self._buffers.download([name for name in outputs if name in self._buffers.outputs], rows)
        for name, array in free.items():
            found[name] = array[:rows] if array.ndim and rows < bucket == len(array) else array
        return {name: found[name] for name in outputs}

    @staticmethod
    def _run_binding(binding: Binding) -> dict[str, Array]:
        binding.run()
        return {}

    def _in_turn(self, work: Callable[[], dict[str, Array]]) -> dict[str, Array]:
        """Run it when the session is free, unless it was terminated before."""
        self._progress.advance(LaneState.QUEUED)

        def run() -> dict[str, Array]:
            self._progress.advance(LaneState.RUNNING)
            return work()

        outcome = self._compute.run(run)
        self._progress.advance(LaneState.EMPTYING)
        return outcome

    def _bind(self, rows: int) -> Binding:
        assert self._buffers is not None
        assert self._driver is not None
        assert self._plan is not None
        binding = self._engine.bind(
            [buffer.place(rows) for buffer in self._buffers.inputs.values()],
            [*(buffer.place(rows) for buffer in self._buffers.outputs.values()), *self._plan.free_outputs],
            (self._driver.device_name, self._driver.device_id),
            NO_GRAPH if self._new_graph is None else self._new_graph(),
        )
        self._bindings[rows] = binding
        return binding
