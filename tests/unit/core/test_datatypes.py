"""Datatypes have one name on the wire, one in configs and one form in memory."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

from naiad.core.datatypes import DataType, zeros
from naiad.core.errors import InvalidArgumentError


@pytest.mark.parametrize("datatype", DataType, ids=lambda datatype: datatype.value)
def test_each_is_one_of_tritons_and_lies_as_its_client_lays_it(datatype: DataType) -> None:
    assert model_config_pb2.DataType.Value(datatype.config_name)
    assert DataType.from_config_name(datatype.config_name) is datatype
    assert DataType.from_wire_name(datatype.value) is datatype
    if datatype not in {DataType.BYTES, DataType.BF16}:
        assert datatype.numpy == np.dtype(triton_to_np_dtype(datatype.value))


def test_every_datatype_of_the_config_is_known_here() -> None:
    names = set(model_config_pb2.DataType.keys()) - {"TYPE_INVALID"}
    assert names == {datatype.config_name for datatype in DataType}


def test_names_of_neither_world_are_told_apart() -> None:
    assert DataType.from_wire_name("TYPE_INT32") is None
    with pytest.raises(InvalidArgumentError, match="unknown data_type 'INT32'"):
        DataType.from_config_name("INT32")


def test_zeros_of_text_are_empty_strings() -> None:
    assert zeros(DataType.BYTES, (2, 1)).tolist() == [[b""], [b""]]
    assert zeros(DataType.FP16, (2,)).dtype == np.float16
