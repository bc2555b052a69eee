"""A session that another server runs: each `run` is one ModelInfer call."""

from __future__ import annotations

import threading
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import (
    CancelledError,
    EngineTimeoutError,
    InternalError,
    NaiadError,
    UnavailableError,
)
from naiad.core.tensors import WILDCARD
from naiad.runtime.remote.fleet import ENDED
from naiad.runtime.remote.messages import Place, Reply, infer_head, raw_content, set_place, to_wire
from naiad.runtime.remote.shared import Layout, Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from naiad.core.tensors import Array, Tensors, TensorSpec
    from naiad.runtime.remote.fleet import Fleet, Host
    from naiad.runtime.remote.model import RemoteModel

SHARED_BYTES = 64 * 1024
"""Bytes of a run's inputs and outputs from which they go through shared memory: below, gRPC is as fast."""

_MAX_AHEAD_BYTES = 64 * 2**20
"""A region is made as large as the largest batch wants it, if that is no more than this."""


class RemoteSession:
    """A model version on a fleet. `run` may be called from several threads at once, and uses gRPC alone.

    What `for_instance` gives can be ended and uses shared memory where a server is on this machine. The fleet
    stays its owner's to close.
    """

    def __init__(self, fleet: Fleet, model: RemoteModel) -> None:
        self._fleet = fleet
        self._model = model
        self._runs: list[RemoteRun] = []

    def __repr__(self) -> str:
        return f"<RemoteSession {self._model.name} on {self._fleet!r}>"

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs, full shapes."""
        return self._model.inputs

    def outputs(self) -> Sequence[TensorSpec]:
        """The model's outputs, full shapes."""
        return self._model.outputs

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once.

        Raises:
            NaiadError: what the server answered.
            UnavailableError: no server is there.
            EngineTimeoutError: the one that was asked did not answer in time.
        """
        return RemoteRun(self._fleet, self._model, shares=False).run(inputs, outputs)

    def for_instance(self) -> RemoteRun:
        """What one instance runs."""
        run = RemoteRun(self._fleet, self._model, shares=True)
        self._runs.append(run)
        return run

    def close(self) -> None:
        """Let the servers forget the memory of its instances. Safe to call twice."""
        while self._runs:
            self._runs.pop().close()


class RemoteRun:
    """The calls of one instance, one at a time. `terminate` may be called from another thread."""

    def __init__(self, fleet: Fleet, model: RemoteModel, *, shares: bool) -> None:
        self._fleet = fleet
        self._model = model
        self._shares = shares
        self._inputs = {spec.name: spec for spec in model.inputs}
        self._outputs = {spec.name: spec for spec in model.outputs}
        self._regions: dict[Host, Region] = {}
        self._lock = threading.Lock()
        self._call: grpc.Future[bytes] | None = None
        self._ended = False

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs, full shapes."""
        return self._model.inputs

    def outputs(self) -> Sequence[TensorSpec]:
        """The model's outputs, full shapes."""
        return self._model.outputs

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once on the server whose turn it is, or on another one if that is not there.

        Raises:
            NaiadError: what the server answered; CancelledError if the run was ended.
            UnavailableError: no server is there.
            EngineTimeoutError: the one that was asked did not answer in time.
        """
        sent = {name: self._as_sent(name, array) for name, array in inputs.items()}
        return self._fleet.attempt(lambda host: self._run_on(host, sent, outputs))

    def terminate(self) -> None:
        """Cancel the call at work, and refuse further ones until `rearm`."""
        with self._lock:
            self._ended = True
            call = self._call
        if call is not None:
            call.cancel()

    def rearm(self) -> None:
        """Let runs go to their end again."""
        self._ended = False

    def close(self) -> None:
        """Let the servers forget its memory. Safe to call twice."""
        for host in list(self._regions):
            self._drop(host)

    def _as_sent(self, name: str, array: Array) -> Array:
        dims = self._model.reshaped.get(name)
        if dims is None:
            return array
        return array.reshape((len(array), *dims) if self._model.max_batch_size else dims)

    def _run_on(self, host: Host, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        if self._ended:  # while another host was asked: nobody waits for this one
            raise CancelledError(ENDED)
        if self._shares and not host.shared_refusal:
            exchange = _Exchange(self._model, self._outputs, inputs, outputs)
            if exchange.byte_size >= SHARED_BYTES and (region := self._region(host, exchange)):
                try:
                    return exchange.read(region, self._send(host, exchange.write(region)))
                except NaiadError as error:
                    # After a call that was given up the server may still write to the memory.
                    lost = region.name in error.message
                    if lost or isinstance(error, UnavailableError | EngineTimeoutError | CancelledError):
                        self._drop(host)
                    if not lost:
                        raise
        return self._run_plainly(host, inputs, outputs)

    def _run_plainly(self, host: Host, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        head = _head(self._model, self._inputs, inputs, outputs)
        contents = [raw_content(array, self._inputs[name].datatype) for name, array in inputs.items()]
        return self._send(host, to_wire(head, contents)).tensors(self._outputs, outputs)

    def _region(self, host: Host, exchange: _Exchange) -> Region | None:
        """Memory that the host has registered; None if it takes none, and why is noted with the host.

        Raises:
            UnavailableError, EngineTimeoutError: the host is not there, or says nothing; it would not take
                the tensors by gRPC either.
        """
        region = self._regions.get(host)
        if region is not None and region.byte_size >= exchange.byte_size:
            return region
        self._drop(host)
        try:
            region = self._regions[host] = Region(host, exchange.byte_size_ahead)
        except (UnavailableError, EngineTimeoutError):
            raise  # nothing was refused: it is asked again when it is there
        except NaiadError as error:
            host.shared_refusal = error.message
            return None
        return region

    def _drop(self, host: Host) -> None:
        region = self._regions.pop(host, None)
        if region is not None:
            region.close()

    def _send(self, host: Host, request: bytes) -> Reply:
        try:
            return Reply.of(host.infer(request, self._begun))
        finally:
            self._call = None

    def _begun(self, call: grpc.Future[bytes]) -> None:
        with self._lock:
            self._call = call
            ended = self._ended
        if ended:
            call.cancel()


class _Exchange:
    """Where the tensors of one run lie in shared memory: inputs first, then outputs of known size."""

    def __init__(
        self, model: RemoteModel, specs: dict[str, TensorSpec], inputs: Tensors, outputs: Sequence[str]
    ) -> None:
        self._model = model
        self._specs = specs
        self._inputs = inputs
        self._outputs = outputs
        self._rows = len(next(iter(inputs.values()), ())) if model.max_batch_size else 1
        self._sizes = {
            **{("in", name): array.nbytes for name, array in inputs.items() if array.dtype != np.object_},
            **{("out", name): size for name in outputs if (size := self._output_bytes(specs[name]))},
        }
        layout = Layout.of(tuple(self._sizes.values()))
        self._offsets = dict(zip(self._sizes, layout.offsets, strict=True))
        self.byte_size = layout.byte_size

    @property
    def byte_size_ahead(self) -> int:
        """What the largest batch would take."""
        ahead = self.byte_size * max(1, self._model.max_batch_size) // max(1, self._rows)
        return max(self.byte_size, min(ahead, _MAX_AHEAD_BYTES))

    def write(self, region: Region) -> bytes:
        """The request, its inputs written to the region."""
        inputs = {spec.name: spec for spec in self._model.inputs}
        head = _head(self._model, inputs, self._inputs, self._outputs)
        contents = []
        for tensor in head.inputs:
            array = self._inputs[tensor.name]
            place = self._place(region, "in", tensor.name)
            if place is None:
                contents.append(raw_content(array, inputs[tensor.name].datatype))
                continue
            target = region.bytes[place.offset : place.offset + place.byte_size]
            np.copyto(target.view(array.dtype).reshape(array.shape), array)
            set_place(tensor, place)
        for tensor in head.outputs:
            place = self._place(region, "out", tensor.name)
            if place is not None:
                set_place(tensor, place)
        return to_wire(head, contents)

    def read(self, region: Region, reply: Reply) -> dict[str, Array]:
        """The outputs: copies of those in the region, which the next run writes over."""
        sent = [name for name in self._outputs if ("out", name) not in self._sizes]
        tensors = reply.tensors(self._specs, sent)
        for output in reply.head.outputs:
            place = self._place(region, "out", output.name)
            if place is None:
                continue
            dtype = self._specs[output.name].datatype.numpy
            shape = tuple(output.shape)
            size = dtype.itemsize * prod(shape)
            if size > place.byte_size:
                raise InternalError(
                    f"output '{output.name}' came with shape {list(shape)}, {size} bytes: the model said "
                    f"{place.byte_size} bytes"
                )
            content = region.bytes[place.offset : place.offset + size].copy()
            tensors[output.name] = content.view(dtype).reshape(shape)
        return {name: tensors[name] for name in self._outputs}

    def _place(self, region: Region, kind: str, name: str) -> Place | None:
        key = (kind, name)
        return Place(region.name, self._offsets[key], self._sizes[key]) if key in self._sizes else None

    def _output_bytes(self, spec: TensorSpec) -> int:
        """Bytes of an output of this run, 0 where its shape does not tell."""
        if spec.datatype is DataType.BYTES or spec.shape is None:
            return 0
        shape = (self._rows, *spec.shape[1:]) if self._model.max_batch_size else spec.shape
        return 0 if WILDCARD in shape else spec.datatype.itemsize * prod(shape)


def _head(model: RemoteModel, specs: dict[str, TensorSpec], inputs: Tensors, outputs: Sequence[str]) -> Any:
    shapes = ((name, specs[name].datatype, array.shape) for name, array in inputs.items())
    return infer_head(model.name, model.version, shapes, outputs)
