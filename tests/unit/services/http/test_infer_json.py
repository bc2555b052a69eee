"""An inference's JSON to Triton's message and each input's bytes: every source of data, every refusal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.services.http.errors import JsonTypeError, error_of
from naiad.services.http.infer_json import ParsedInfer, parse_infer

MAX_INPUT = 2**26


def tensor(**members: Any) -> dict[str, Any]:
    return {"name": "INPUT0", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4]} | members


def parse(*inputs: Any, tail: bytes = b"", max_input: int = MAX_INPUT, **members: Any) -> ParsedInfer:
    text = json.dumps({"inputs": list(inputs)} | members).encode()
    return parse_infer("model", "7", text, memoryview(tail), max_input=max_input)


def refusal(*inputs: Any, **members: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(*inputs, **members)
    return caught.value.message


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in tensor().items() if key != name}


def test_the_message_holds_names_and_shapes_and_the_bytes_lie_beside_it() -> None:
    parsed = parse(tensor(), id="request")
    message = parsed.message
    assert (message.model_name, message.model_version, message.id) == ("model", "7", "request")
    (named,) = message.inputs
    assert (named.name, named.datatype, list(named.shape)) == ("INPUT0", "INT32", [2, 2])
    assert parsed.data == [np.arange(1, 5, dtype=np.int32).tobytes()]


@pytest.mark.parametrize("data", [[[1, 2], [3, 4]], [[[[1]], 2], [3], 4], [1, [2, 3, 4]], [[], [1, 2, 3, 4]]])
def test_data_may_be_nested_in_any_way_and_is_read_row_by_row(data: list[Any]) -> None:
    assert parse(tensor(data=data)).data == [np.arange(1, 5, dtype=np.int32).tobytes()]


def nested(depth: int) -> list[Any]:
    value: Any = 5
    for _ in range(depth):
        value = [value]
    assert isinstance(value, list)
    return value


def test_data_may_nest_a_hundred_deep() -> None:
    assert parse(tensor(shape=[1], data=nested(100))).data == [np.int32(5).tobytes()]
    assert (
        refusal(tensor(shape=[1], data=nested(101)))
        == "JSON nesting depth exceeds maximum allowed limit (100)"
    )


@pytest.mark.parametrize(
    ("datatype", "values", "dtype"),
    [
        ("BOOL", [True, False], np.bool_), ("UINT8", [0, 255], np.uint8), ("UINT16", [0, 2**16 - 1], np.uint16),
        ("UINT32", [0, 2**32 - 1], np.uint32), ("UINT64", [0, 2**64 - 1], np.uint64), ("INT8", [-128, 127], np.int8),
        ("INT16", [-(2**15), 2**15 - 1], np.int16), ("INT32", [-(2**31), 2**31 - 1], np.int32),
        ("INT64", [-(2**63), 2**63 - 1], np.int64), ("FP32", [1, 0.1], np.float32), ("FP64", [0.1, 2**53], np.float64),
        ("FP32", [float("nan"), float("-inf")], np.float32), ("FP32", [1e300, -1e300], np.float32),
    ],
)  # fmt: skip
def test_every_datatype_is_exact_to_its_ends(datatype: str, values: list[Any], dtype: type) -> None:
    with np.errstate(over="ignore"):
        expected = np.array(values, dtype=dtype).tobytes()
    assert parse(tensor(datatype=datatype, shape=[2], data=values)).data == [expected]


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("BOOL", 1), ("UINT8", True), ("UINT8", -1), ("UINT8", 256), ("UINT64", 2**64), ("UINT64", -1), ("INT8", 128),
        ("INT64", 2**63), ("INT32", 1.0), ("INT32", "1"), ("INT32", None), ("INT32", {}), ("FP32", True), ("FP64", "1"),
        ("FP64", 10**400), ("BYTES", 1), ("BYTES", None),
    ],
)  # fmt: skip
def test_a_value_that_the_datatype_cannot_hold_is_refused_and_never_changed(
    datatype: str, value: Any
) -> None:
    text = refusal(tensor(datatype=datatype, shape=[1], data=[value]))
    assert text.startswith(("Unable to parse 'data'", "Unable to parse JSON bytes array"))


def test_half_precision_travels_in_binary_only() -> None:
    for datatype in ("FP16", "BF16"):
        assert refusal(tensor(datatype=datatype)) == (
            f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input INPUT0"
        )
    assert refusal(tensor(datatype="FP128")) == "invalid datatype for input INPUT0"


def test_texts_are_utf_8_elements() -> None:
    parsed = parse(tensor(datatype="BYTES", shape=[3], data=["", ["é", "a\x00b"]]))
    assert parsed.data == [[b"", "é".encode(), b"a\0b"]]
    assert "surrogates not allowed" in refusal(tensor(datatype="BYTES", shape=[1], data=["\ud800"]))


def test_too_many_and_too_few_values_are_refused() -> None:
    assert "Shape does not match true shape of 'data' field" in refusal(tensor(data=[1, 2, 3, 4, 5]))
    assert "shape does not match true shape" in refusal(tensor(data=[1, 2, 3]))


def test_an_empty_tensor_needs_no_data() -> None:
    assert parse(tensor(shape=[1, 0], data=[])).data == [b""]


def test_a_negative_dimension_is_500_as_triton_has_it() -> None:
    with pytest.raises(JsonTypeError) as caught:
        parse(tensor(shape=[2, -5]))
    status, message = error_of(caught.value)
    assert status == 500
    assert (
        message == "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer"
    )


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([2**4, 2**60 + 2], "causes total element count to exceed maximum size of 9223372036854775807"),
        ([2**2, 2**60 + 2], "byte size overflow for input 'INPUT0': element count (4611686018427387912)"),
        ([2**63], "dimension 9223372036854775808 exceeds maximum size"),
        ([1] * 65, "65 dimensions, more than the 64 served"),
        (
            [2**25],
            "JSON input 'INPUT0' has a byte_size (134217728 bytes) that exceeds the maximum allowed value of",
        ),
    ],
)
def test_what_a_shape_implies_is_checked_before_any_memory_is_taken(shape: list[int], text: str) -> None:
    assert text in refusal(tensor(shape=shape, data=[1]))


def test_the_limit_counts_the_lengths_of_texts() -> None:
    many = tensor(datatype="BYTES", shape=[10], data=[""] * 10)
    assert parse(many, max_input=40).data
    assert "has a byte_size (40 bytes)" in refusal(many, max_input=39)


def test_binary_tensors_are_views_in_the_order_of_their_inputs() -> None:
    sizes = [{"binary_data_size": size} for size in (3, 0, 2)]
    inputs = [{**without("data"), "parameters": size} for size in sizes]
    inputs.insert(1, tensor())
    tail = b"abcde"
    parsed = parse(*inputs, tail=tail)
    first, _, empty, last = parsed.data
    assert (first, empty, last) == (b"abc", b"", b"de")
    assert isinstance(first, memoryview)
    assert first.obj is tail


def test_binary_data_that_is_missing_or_left_over_is_refused() -> None:
    binary = {**without("data"), "parameters": {"binary_data_size": 8}}
    assert refusal(binary, tail=b"abc") == (
        "unexpected size for input 'INPUT0', expecting 5 additional bytes for model 'model'"
    )
    assert refusal(binary, tail=b"a" * 9) == "unexpected additional input data for model 'model'"
    assert "binary_data_size" in refusal({**without("data"), "parameters": {"binary_data_size": -1}})


@pytest.mark.parametrize(
    ("parameters", "data", "found"),
    [
        ({}, False, "But no field is set"),
        ({"binary_data_size": 1}, True, "But set 'data' 'binary_data_size'"),
        ({"shared_memory_region": "r"}, True, "But set 'data' 'shared_memory_region'"),
    ],
)
def test_an_input_has_exactly_one_source(parameters: dict[str, Any], data: bool, found: str) -> None:
    text = refusal({**(tensor() if data else without("data")), "parameters": parameters})
    assert text.startswith("Input must set only one of the following fields: 'data', 'binary_data_size' in ")
    assert text.endswith(found)


def test_shared_memory_is_named_in_the_message_and_has_no_bytes() -> None:
    memory = {"shared_memory_region": "r", "shared_memory_byte_size": 2**64 - 1, "shared_memory_offset": 8}
    parsed = parse({**without("data"), "parameters": memory}, outputs=[{"name": "O", "parameters": memory}])
    assert parsed.data == [None]
    for named in (parsed.message.inputs[0], parsed.message.outputs[0]):
        assert named.parameters["shared_memory_region"].string_param == "r"
        assert named.parameters["shared_memory_offset"].int64_param == 8
        # The bits of an unsigned number in the signed field.
        assert named.parameters["shared_memory_byte_size"].int64_param == -1


def test_request_parameters_keep_their_types() -> None:
    given = {
        "i": -5,
        "b": True,
        "s": "é",
        "d": 0.5,
        "sequence_id": 2**64 - 1,
        "priority": 2**63,
        "timeout": 2**64 - 1,
    }
    found = parse(tensor(), parameters=given | {"binary_data_output": True}).message.parameters
    values = {key: getattr(each, each.WhichOneof("parameter_choice")) for key, each in found.items()}
    assert values == {**given, "sequence_id": -1, "timeout": 2**63 - 1}
    assert found["priority"].WhichOneof("parameter_choice") == "uint64_param"
    assert (
        parse(tensor(), parameters={"sequence_id": "a"}).message.parameters["sequence_id"].string_param == "a"
    )


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"triton_enable_empty_final_response": True}, "should not be specified"),
        ({"sequence_start": 1}, "Unable to parse 'sequence_start'"),
        ({"priority": -1}, "Unable to parse 'priority'"),
        ({"timeout": 1.5}, "Unable to parse 'timeout'"),
        ({"sequence_id": -1}, "Unable to parse 'sequence_id'"),
        ({"binary_data_output": 1}, "Unable to parse 'binary_data_output'"),
        ({"x": None}, "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'."),
        ({"x": 2**64}, "parameter 'x' has invalid type"),
        ({"\ud800": 1}, "surrogates not allowed"),
        ([], "Unable to parse 'parameters'"),
    ],
)
def test_wrong_request_parameters_are_refused(parameters: Any, text: str) -> None:
    assert text in refusal(tensor(), parameters=parameters)


def test_outputs_say_how_they_are_wanted() -> None:
    outputs = [
        {"name": "A", "parameters": {"binary_data": False}},
        {"name": "B", "parameters": {"binary_data": True, "classification": 3}},
        {"name": "C", "parameters": {"classification": 0}},
    ]
    parsed = parse(tensor(), outputs=outputs, parameters={"binary_data_output": True})
    assert [parsed.is_binary(name) for name in "ABCD"] == [False, True, True, True]
    assert [output.name for output in parsed.message.outputs] == ["A", "B", "C"]
    assert parsed.message.outputs[1].parameters["classification"].int64_param == 3
    assert not parsed.message.outputs[2].parameters
    assert not parse(tensor()).is_binary("A")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (
            {"shared_memory_region": "r", "classification": 1},
            "Output can't set both 'shared_memory_region' and 'classification'",
        ),
        (
            {"shared_memory_region": "r", "binary_data": True},
            "Output can't set both 'shared_memory_region' and 'binary_data'",
        ),
        ({"classification": -1}, "Unable to parse 'classification'"),
        ({"binary_data": 1}, "Unable to parse 'binary_data'"),
    ],
)
def test_wrong_outputs_are_refused(parameters: Any, text: str) -> None:
    assert refusal(tensor(), outputs=[{"name": "A", "parameters": parameters}]).startswith(text)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([without("name")], "Unable to parse 'name': attempt to access non-existing object member 'name'"),
        ([tensor(name=5)], "Unable to parse 'name': attempt to access JSON non-string as string"),
        ([without("datatype")], "Unable to parse 'datatype'"),
        ([without("shape")], "Unable to parse 'shape'"),
        ([tensor(shape=5)], "Unable to parse 'shape': attempt to access JSON non-array as array"),
        ([tensor(data="text")], "Unable to parse 'data': attempt to access JSON non-array as array"),
        ([tensor(parameters=[])], "Unable to parse 'parameters'"),
        ([5], "Unable to parse 'inputs': attempt to access JSON non-object as object"),
    ],
)
def test_wrong_inputs_are_refused(inputs: list[Any], text: str) -> None:
    assert refusal(*inputs).startswith(text)


def test_inputs_must_be_there() -> None:
    with pytest.raises(InvalidArgumentError, match="Unable to parse 'inputs'"):
        parse_infer("model", "", b"{}", memoryview(b""), max_input=10)


def test_a_long_tensor_is_the_same_as_a_short_one() -> None:
    """Its array is cut out of the text and parsed in pieces."""
    values = np.arange(100_000, dtype=np.float32) / 7
    parsed = parse(tensor(datatype="FP32", shape=[100_000], data=values.tolist()))
    assert parsed.data == [values.tobytes()]
    assert "Shape does not match" in refusal(tensor(shape=[99_999], data=[1] * 100_000))
    assert "does not match" in refusal(tensor(shape=[100_001], data=[1] * 100_000))
    assert "non-signed-integer" in refusal(tensor(shape=[100_000], data=[1] * 99_999 + [1.5]))


def test_a_long_array_that_is_no_input_is_refused() -> None:
    assert refusal(tensor(), parameters={"data": [1] * 100_000}) == (
        "Unable to parse 'data': it is no member of an input"
    )
