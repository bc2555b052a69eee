"""The tensors of one request that lie in shared memory: leased together, released together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from naiad.core.tensors import placeholder
from naiad.services.answer import write_shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.core.datatypes import DataType
    from naiad.core.tensors import Array, Tensors
    from naiad.services.shared_memory.parameters import ShmParameters
    from naiad.services.shared_memory.table import Lease, Range


class SharedMemory(Protocol):
    """The registered regions."""

    def lease(self, name: str, offset: int, byte_size: int) -> Lease:
        """That range, in use until it is released; raises NaiadError."""
        ...


class SharedTensors:
    """Where a request's inputs are read from and its outputs written to.

    If it `is_deferred`, the thread of the instance that runs the request does both, straight from and to the
    memory (`sources`, `sink`): the ranges are its own, whatever becomes of the leases. Else inputs are copied
    when the request is made and outputs when it is answered. Used on the event loop's thread.
    """

    __slots__ = ("_inputs", "_outputs", "is_deferred", "sink", "sources")

    def __init__(
        self,
        inputs: Mapping[str, Lease],
        outputs: Mapping[str, Lease],
        datatypes: Mapping[str, DataType],
        *,
        defers: bool,
    ) -> None:
        """Take over leases.

        Args:
            inputs: by tensor.
            outputs: by tensor.
            datatypes: of all outputs.
            defers: whether the model reads sources and writes to sinks.
        """
        self._inputs = inputs
        self._outputs = outputs
        self.sources: dict[str, Range] | None = None
        self.sink: SharedOutputs | None = None
        self.is_deferred = False
        if not defers:
            return
        sources, targets = _ranges(inputs), _ranges(outputs)
        if sources is not None and targets is not None:
            self.is_deferred = True
            self.sources = sources or None
            self.sink = SharedOutputs(targets, datatypes) if targets else None

    def input(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """The input's array: a copy of what lies there now, or if it is deferred a placeholder.

        Raises:
            InvalidArgumentError: the client has made its object smaller than it registered.
            InternalError: the memory cannot be read.
        """
        if self.is_deferred:
            return placeholder(shape, dtype)
        return np.ndarray(shape, dtype, self._inputs[name].read())

    def end_copying(self) -> None:
        """The request is made: give the leases of copied inputs back."""
        if not self.is_deferred:
            for lease in self._inputs.values():
                lease.release()

    def write(self, outputs: Tensors, datatypes: Mapping[str, DataType]) -> None:
        """Write the outputs that are wanted there, if no instance has.

        Raises:
            CallerFaultError: one does not fit.
            InvalidArgumentError: the client has made its object smaller than it registered.
            InternalError: the memory cannot be written.
        """
        if not self.is_deferred:
            for name, lease in self._outputs.items():
                write_shared(lease, name, outputs[name], datatypes[name])

    def release(self) -> None:
        """Give the leases back. Safe to call twice."""
        for lease in (*self._inputs.values(), *self._outputs.values()):
            lease.release()


class SharedOutputs:
    """Writes outputs to ranges of shared memory: a request's `TensorSink`."""

    __slots__ = ("_datatypes", "_targets")

    def __init__(self, targets: Mapping[str, Range], datatypes: Mapping[str, DataType]) -> None:
        self._targets = targets
        self._datatypes = datatypes

    def write(self, outputs: Tensors) -> None:
        """Write them; raises as `SharedTensors.write`."""
        for name, target in self._targets.items():
            write_shared(target, name, outputs[name], self._datatypes[name])


NOTHING_SHARED = SharedTensors({}, {}, {}, defers=False)
"""Of a request all of whose tensors travel in messages."""


def lease_all(
    regions: SharedMemory,
    inputs: Mapping[str, ShmParameters],
    outputs: Mapping[str, ShmParameters],
    datatypes: Mapping[str, DataType],
    *,
    defers: bool,
) -> SharedTensors:
    """Lease what the tensors of a request name, all or nothing.

    Raises:
        NaiadError: a region is not there, or a range is not inside it.
    """
    if not inputs and not outputs:
        return NOTHING_SHARED
    leased: dict[str, Lease] = {}
    wanted: dict[str, Lease] = {}
    try:
        for target, places in ((leased, inputs), (wanted, outputs)):
            for name, place in places.items():
                target[name] = regions.lease(*place)
        return SharedTensors(leased, wanted, datatypes, defers=defers)
    except BaseException:
        for lease in (*leased.values(), *wanted.values()):
            lease.release()
        raise


def _ranges(leases: Mapping[str, Lease]) -> dict[str, Range] | None:
    """The leases' ranges; None if one has none."""
    ranges: dict[str, Range] = {}
    for name, lease in leases.items():
        own = lease.range()
        if own is None:
            return None
        ranges[name] = own
    return ranges
