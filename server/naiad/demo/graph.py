"""Writes ONNX graphs as plain expressions: `Value` carries the operators, `GraphBuilder` collects the nodes.

Python numbers become constants by one rule: `float` is FP32, `int` is INT64. Arrays keep their dtype.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    import numpy.typing as npt
    import onnx

    Number = float | int | npt.NDArray[Any]
    Operand = Union["Value", Number]  # noqa: UP007 - a quoted name knows no |
    Output = tuple["Value", npt.DTypeLike, Sequence[int | str]]
    """A graph's output: the value, its dtype and its shape."""

OPSET = 17
IR_VERSION = 8
"""Old enough for every Triton that is still in use, new enough for RoiAlign's half-pixel mode."""


def demo_module(name: str) -> ModuleType:
    """Import a module that only the demo needs.

    Raises:
        UnavailableError: it is not installed; the message says which extra brings it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise UnavailableError(
            f"the demo needs the package '{missing}', which is not installed: pip install 'naiad[demo]'"
        ) from error


class Value:
    """One tensor of a graph under construction; operators append the node that computes them."""

    __slots__ = ("graph", "name")

    def __init__(self, graph: GraphBuilder, name: str) -> None:
        self.graph = graph
        self.name = name

    def __add__(self, other: Operand) -> Value:
        return self.graph.op("Add", self, other)

    def __radd__(self, other: Number) -> Value:
        return self.graph.op("Add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Number) -> Value:
        return self.graph.op("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.op("Mul", self, other)

    def __rmul__(self, other: Number) -> Value:
        return self.graph.op("Mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.op("Div", self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.graph.op("Greater", self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.graph.op("GreaterOrEqual", self, other)

    def __and__(self, other: Value) -> Value:
        return self.graph.op("And", self, other)

    def cast(self, dtype: npt.DTypeLike) -> Value:
        """This tensor converted to `dtype`."""
        to = demo_module("onnx.helper").np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.op("Cast", self, to=to)

    def reshape(self, *shape: int) -> Value:
        """This tensor in another shape; 0 keeps a dimension, -1 is what is left."""
        return self.graph.op("Reshape", self, np.array(shape, np.int64))

    def unsqueeze(self, *axes: int) -> Value:
        """This tensor with dimensions of size 1 put in at `axes` of the result."""
        return self.graph.op("Unsqueeze", self, np.array(axes, np.int64))

    def transpose(self, *order: int) -> Value:
        """This tensor with its dimensions in another order."""
        return self.graph.op("Transpose", self, perm=list(order))

    def gather(self, indices: Operand, axis: int = 0) -> Value:
        """The entries `indices` along `axis`; a plain int drops the axis."""
        return self.graph.op("Gather", self, indices, axis=axis)

    def first(self, length: Operand, axis: int) -> Value:
        """The first `length` (a one-element tensor) entries along `axis`."""
        zero = np.zeros(1, np.int64)
        return self.graph.op("Slice", self, zero, length, np.array([axis], np.int64))

    def reverse(self, axis: int) -> Value:
        """The entries along `axis` back to front."""
        start, end, step = (np.array([n], np.int64) for n in (-1, np.iinfo(np.int64).min, -1))
        return self.graph.op("Slice", self, start, end, np.array([axis], np.int64), step)

    def split(self, sizes: Sequence[int], axis: int) -> tuple[Value, ...]:
        """Consecutive parts of the given sizes along `axis`."""
        lengths = np.array(sizes, np.int64)
        return self.graph.multi("Split", self, lengths, outputs=len(sizes), axis=axis)


class GraphBuilder:
    """Collects the nodes and constants of one graph.

    Names are generated; equal constants are stored once.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._helper = demo_module("onnx.helper")

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> Value:
        """Declare a graph input; a string is a dimension of any size."""
        self._inputs.append(self._info(name, dtype, shape))
        return Value(self, name)

    def constant(self, value: Number) -> Value:
        """A constant: `float` is FP32, `int` (and bool) INT64, arrays keep their dtype."""
        if isinstance(value, float):
            value = np.float32(value)  # type: ignore[assignment]  # a numpy scalar, made an array below
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._initializers.append(demo_module("onnx.numpy_helper").from_array(array, name))
            self._constants[key] = name
        return Value(self, self._constants[key])

    def multi(self, kind: str, *operands: Operand, outputs: int, **attributes: Any) -> tuple[Value, ...]:
        """Append a node of several outputs."""
        inputs = [(o if isinstance(o, Value) else self.constant(o)).name for o in operands]
        stem = f"{kind}_{len(self._nodes)}"
        names = [stem if outputs == 1 else f"{stem}_{i}" for i in range(outputs)]
        self._nodes.append(self._helper.make_node(kind, inputs, names, name=stem, **attributes))
        return tuple(Value(self, name) for name in names)

    def op(self, kind: str, *operands: Operand, **attributes: Any) -> Value:
        """Append a node of one output."""
        return self.multi(kind, *operands, outputs=1, **attributes)[0]

    def concat(self, *parts: Operand, axis: int = 0) -> Value:
        """`parts` one after the other along `axis`."""
        return self.op("Concat", *parts, axis=axis)

    def arange(self, length: Value) -> Value:
        """INT64 0, 1, … below `length` (a scalar or one-element tensor)."""
        return self.op("Range", 0, length.graph.op("Reshape", length, np.zeros(0, np.int64)), 1)

    def size(self, of: Value, axis: int) -> Value:
        """The size of one dimension, INT64 [1]."""
        return self.op("Shape", of, start=axis, end=axis + 1)

    def model(
        self, outputs: Mapping[str, tuple[Value, npt.DTypeLike, Sequence[int | str]]], *, doc: str
    ) -> onnx.ModelProto:
        """The checked model.

        Args:
            outputs: name of each graph output to its value, dtype and shape.
            doc: what the graph is, stored in the file.
        """
        infos = []
        for name, (value, dtype, shape) in outputs.items():
            self._nodes.append(
                self._helper.make_node("Identity", [value.name], [name], name=f"output_{name}")
            )
            infos.append(self._info(name, dtype, shape))
        graph = self._helper.make_graph(self._nodes, "naiad_demo", self._inputs, infos, self._initializers)
        opset = self._helper.make_opsetid("", OPSET)
        built: onnx.ModelProto = self._helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="naiad", doc_string=doc
        )
        demo_module("onnx.checker").check_model(built)
        return built

    def _info(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
        element = self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        info: onnx.ValueInfoProto = self._helper.make_tensor_value_info(name, element, shape)
        return info
