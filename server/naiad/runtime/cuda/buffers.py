"""A lane's memory: for each bound tensor one place on the host, pinned, and one on the GPU."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.datatypes import DataType
from naiad.runtime.onnx_binding import Place

if TYPE_CHECKING:
    from naiad.core.tensors import Array
    from naiad.runtime.cuda.driver import Driver
    from naiad.runtime.cuda.plan import BindingPlan, BoundTensor

_ONNX_BFLOAT16 = 16  # TensorProto.BFLOAT16; numpy has no such type


@dataclass(frozen=True, slots=True)
class TensorBuffer:
    """One tensor's two places, both of `rows` batch items; those of a smaller batch are the first.

    `host` is `[rows, *row]`, or `[*row]` of a tensor without a batch dimension.
    """

    tensor: BoundTensor
    host: Array
    host_address: int
    device_address: int
    row_bytes: int

    def view(self, rows: int) -> Array:
        """The place on the host of a batch of `rows`."""
        return self.host[:rows] if self.tensor.batched else self.host

    def bytes(self, rows: int) -> int:
        """What a batch of `rows` takes."""
        return self.row_bytes * (rows if self.tensor.batched else 1)

    def holds(self, array: Array) -> bool:
        """Whether the array lies here already, from the first row on."""
        # The address alone would tell; asking for it takes longer than all the rest.
        return array.base is self.host.base and array.ctypes.data == self.host_address

    def place(self, rows: int) -> Place:
        """The place on the GPU as the engine is told it."""
        datatype = self.tensor.datatype
        element_type: Any = _ONNX_BFLOAT16 if datatype is DataType.BF16 else datatype.numpy.type
        return Place(self.tensor.name, self.device_address, self.tensor.shape(rows), element_type)


class LaneBuffers:
    """The buffers of a plan, and the stream of their copies. Used by one thread at a time."""

    def __init__(self, driver: Driver, plan: BindingPlan) -> None:
        """Allocate.

        Raises:
            ResourceExhaustedError: there is not enough memory on the GPU, or to pin on the host.
        """
        self._driver = driver
        driver.enter()
        with ExitStack() as opened:
            self._stream = driver.open_stream()
            opened.callback(driver.close_stream, self._stream)
            self.inputs = {tensor.name: self._allocate(tensor, plan, opened) for tensor in plan.inputs}
            self.outputs = {tensor.name: self._allocate(tensor, plan, opened) for tensor in plan.outputs}
            self._opened = opened.pop_all()

    def upload(self, rows: int) -> None:
        """Copy the inputs of a batch of `rows` to the GPU, and wait for it."""
        for buffer in self.inputs.values():
            self._driver.to_device(
                buffer.device_address, buffer.host_address, buffer.bytes(rows), self._stream
            )
        self._driver.synchronize(self._stream)

    def download(self, names: list[str], rows: int) -> dict[str, Array]:
        """The first `rows` of outputs, in memory of their own: the buffers are the next batch's."""
        found = [self.outputs[name] for name in names]
        for buffer in found:
            self._driver.to_host(buffer.host_address, buffer.device_address, buffer.bytes(rows), self._stream)
        self._driver.synchronize(self._stream)
        return {buffer.tensor.name: buffer.view(rows).copy() for buffer in found}

    def close(self) -> None:
        """Free all. Safe to call twice."""
        self._driver.enter()
        self._opened.close()

    def _allocate(self, tensor: BoundTensor, plan: BindingPlan, opened: ExitStack) -> TensorBuffer:
        size = tensor.row_bytes * (plan.largest if tensor.batched else 1)
        host = self._driver.allocate_pinned(size)
        opened.callback(self._driver.free_pinned, host)
        device = self._driver.allocate_device(size)
        opened.callback(self._driver.free_device, device)
        ctypes.memset(host, 0, size)  # it may hold what another process left
        memory = memoryview((ctypes.c_char * size).from_address(host)).cast("B")
        array: Array = np.frombuffer(memory, dtype=tensor.datatype.numpy).reshape(tensor.shape(plan.largest))
        return TensorBuffer(tensor, array, host, device, tensor.row_bytes)
