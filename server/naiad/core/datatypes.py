"""Datatypes of the inference protocol and how each one lies in memory. Pure."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt


class DataType(Enum):
    """A tensor's element type; the value is the name that the protocol uses on the wire."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"
    BF16 = "BF16"

    @property
    def config_name(self) -> str:
        """The name in `config.pbtxt`, for example `TYPE_FP32`; BYTES is `TYPE_STRING` there."""
        return "TYPE_STRING" if self is DataType.BYTES else f"TYPE_{self.value}"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype that holds it: BF16 travels as its uint16 bits, BYTES as objects of `bytes`."""
        return _NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes an element takes on the wire; 0 for BYTES, whose elements vary."""
        return 0 if self is DataType.BYTES else self.numpy.itemsize

    @classmethod
    def from_config_name(cls, name: str) -> DataType:
        """The datatype called `TYPE_…` in `config.pbtxt`.

        Raises:
            InvalidArgumentError: the name is none of the config's datatypes.
        """
        try:
            return _BY_CONFIG_NAME[name]
        except KeyError:
            raise InvalidArgumentError(f"unknown data_type '{name}'") from None

    @classmethod
    def from_wire_name(cls, name: str) -> DataType | None:
        """The datatype of that protocol name, or None: an unknown name is the dtype check's to report."""
        return _BY_WIRE_NAME.get(name)


_NUMPY: dict[DataType, np.dtype[np.generic]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.FP16: np.dtype(np.float16),
    DataType.FP32: np.dtype(np.float32),
    DataType.FP64: np.dtype(np.float64),
    DataType.BYTES: np.dtype(np.object_),
    DataType.BF16: np.dtype(np.uint16),
}
_BY_CONFIG_NAME = {datatype.config_name: datatype for datatype in DataType}
_BY_WIRE_NAME = {datatype.value: datatype for datatype in DataType}


def zeros(datatype: DataType, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """A tensor of zeros (empty strings for BYTES), as warm-up and padding need it."""
    if datatype is DataType.BYTES:
        array: npt.NDArray[np.generic] = np.empty(shape, dtype=np.object_)
        array.fill(b"")
        return array
    return np.zeros(shape, dtype=datatype.numpy)
