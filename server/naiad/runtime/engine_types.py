"""The engine's types and texts in the protocol's: datatypes and shapes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from naiad.core.datatypes import DataType
from naiad.core.errors import UnsupportedError
from naiad.core.tensors import WILDCARD, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_DATATYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(string)": DataType.BYTES,
    "tensor(bfloat16)": DataType.BF16,
}


class GraphValue(Protocol):
    """An input or output as the engine shows it."""

    @property
    def name(self) -> str:
        """Its name in the graph."""
        ...

    @property
    def type(self) -> str:
        """For example `tensor(float)` or `seq(tensor(float))`."""
        ...

    @property
    def shape(self) -> Sequence[int | str | None]:
        """A number, a symbol's name or None for each dimension; empty for a scalar or an unknown rank."""
        ...


def tensor_spec(role: str, value: GraphValue, unranked: Collection[str]) -> TensorSpec:
    """The spec of one input or output.

    Args:
        role: `input` or `output`, for the message.
        value: the engine's view of it.
        unranked: the names whose shape the file does not say.

    Raises:
        UnsupportedError: it is a sequence, a map, or a tensor of a type that the protocol has no name for.
    """
    datatype = _DATATYPES.get(value.type)
    if datatype is None:
        raise UnsupportedError(
            f"{role} '{value.name}' is of type {value.type}: "
            "only tensors of the protocol's datatypes are served"
        )
    if value.name in unranked and not value.shape:
        return TensorSpec(value.name, datatype, None)
    return TensorSpec(value.name, datatype, tuple(_dimension(dim) for dim in value.shape))


def _dimension(dim: int | str | None) -> int:
    return dim if isinstance(dim, int) and dim >= 0 else WILDCARD
