"""Requests are checked in Triton's order and words."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, NotFoundError
from naiad.core.tensors import InferRequest, InferResponse, ModelKey
from naiad.services.answer import Placements, make_answer
from naiad.services.contents import SharedMemory, bind_contents
from naiad.services.conversion import (
    HEAVY_SHARED_BYTES,
    check_declared,
    is_heavy_request,
    parse_version,
    to_domain,
)
from naiad.services.parameters import RequestParameters, read_parameters
from naiad.services.shared_memory.table import Region, RegionTable
from naiad.services.wire.reply import to_wire

if TYPE_CHECKING:
    from naiad.services.shared_memory.table import Bytes, Lease

SIMPLE = ModelConfig(
    name="simple",
    max_batch_size=8,
    inputs=(TensorConfig("INPUT0", DataType.INT32, (16,)), TensorConfig("INPUT1", DataType.INT32, (16,))),
    outputs=(TensorConfig("OUTPUT0", DataType.INT32, (16,)), TensorConfig("OUTPUT1", DataType.INT32, (16,))),
)
FREE = ModelConfig(
    name="free",
    max_batch_size=0,
    inputs=(
        TensorConfig("INPUT0", DataType.FP32, (-1,)),
        TensorConfig("EXTRA", DataType.FP32, (1,), optional=True),
    ),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (-1,)),),
)


def message(
    *inputs: tuple[str, str, list[int]], outputs: tuple[str, ...] = (), raw_bytes: int = 64, id_: str = ""
) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="simple", id=id_)
    for name, datatype, shape in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(bytes(raw_bytes * max(1, shape[0] if shape else 1)))
    for output in outputs:
        request.outputs.add(name=output)
    return request


class NoRegions:
    """No region is registered."""

    def lease(self, name: str, offset: int, byte_size: int) -> Lease:
        raise NotFoundError(f"Unable to find shared memory region: '{name}'")


class Ones(Region):
    """A region of ones that counts how many bytes were copied out of it."""

    word = title = "test"

    def __init__(self, byte_size: int) -> None:
        super().__init__("ones", byte_size)
        self.copied = 0
        self.closed = False

    def read(self, offset: int, byte_size: int) -> Bytes:
        self.copied += byte_size
        return np.ones(byte_size, dtype=np.uint8)

    def write(self, offset: int, data: Bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


def table_of(region: Region) -> RegionTable:
    table = RegionTable(1)
    table.add(region)
    return table


def in_region(request: pb.ModelInferRequest, byte_size: int) -> pb.ModelInferRequest:
    """The request with all its inputs in the region `ones`."""
    del request.raw_input_contents[:]
    for tensor in request.inputs:
        tensor.parameters["shared_memory_region"].string_param = "ones"
        tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    return request


def domain(
    request: pb.ModelInferRequest,
    config: ModelConfig,
    *,
    data: list[bytes | memoryview | list[bytes] | None] | None = None,
    parameters: RequestParameters | None = None,
    regions: SharedMemory | None = None,
) -> InferRequest:
    outputs = check_declared(request, config)
    with ExitStack() as leases:
        contents = bind_contents(request, data, regions or NoRegions(), leases)
        return to_domain(
            request, config, parameters or RequestParameters(), outputs, contents, deadline_ns=None
        )


def reply(response: InferResponse, request: pb.ModelInferRequest, limit: int) -> pb.ModelInferResponse:
    return pb.ModelInferResponse.FromString(
        to_wire(make_answer(response, request, SIMPLE, Placements(), {}), limit)
    )


I0, I1 = ("INPUT0", "INT32", [1, 16]), ("INPUT1", "INT32", [1, 16])


def test_a_good_request_becomes_arrays_that_view_the_message() -> None:
    request = domain(message(I0, I1, outputs=("OUTPUT1",), id_="7"), SIMPLE)
    assert request.inputs["INPUT0"].shape == (1, 16)
    assert request.outputs == ("OUTPUT1",)
    assert (request.batch_size, request.request_id) == (1, "7")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (message(I0, I0, I1), "[request id: <id_unknown>] input 'INPUT0' already exists in request"),
        (message(I0, I1, outputs=("X",)), "unexpected inference output 'X' for model 'simple'"),
        (
            message(I0, I1, outputs=("OUTPUT0", "OUTPUT0")),
            "[request id: <id_unknown>] output 'OUTPUT0' already exists in request",
        ),
        (message(I0, ("X", "INT32", [1, 16])), "unexpected inference input 'X' for model 'simple'"),
        (
            message(I0, id_="a"),
            "[request id: a] expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) ['INPUT0'], but "
            "missing required input(s) ['INPUT1']. Please provide all required input(s).",
        ),
        (
            message(I0, I1, ("X", "INT32", [1, 16])),
            "[request id: <id_unknown>] expected 2 inputs but got 3 inputs for model 'simple'. Got input(s) "
            "['INPUT0','INPUT1','X'], but missing required input(s) []. Please provide all required input(s).",
        ),
        (
            message(("INPUT0", "INT32", []), I1),
            "[request id: <id_unknown>] input 'INPUT0' has no shape but model requires batch dimension for 'simple'",
        ),
        (
            message(I0, ("INPUT1", "INT32", [2, 16])),
            "[request id: <id_unknown>] input 'INPUT1' batch size does not match other inputs for 'simple'",
        ),
        (
            message(("INPUT0", "INT32", [9, 16]), ("INPUT1", "INT32", [9, 16])),
            "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'simple'",
        ),
        (
            message(("INPUT0", "FP32", [1, 16]), I1),
            "[request id: <id_unknown>] inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'",
        ),
        (
            message(("INPUT0", "TYPE_INT32", [1, 16]), I1),
            "[request id: <id_unknown>] inference input 'INPUT0' data-type is '<invalid>', but model 'simple' "
            "expects 'INT32'",
        ),
        (
            message(I0, I1, raw_bytes=60),
            "[request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model 'simple'. "
            "Expected 64, got 60",
        ),
        (
            message(("INPUT0", "INT32", [0, 16]), ("INPUT1", "INT32", [0, 16])),
            "[request id: <id_unknown>] inference request batch-size must be >= 1 for 'simple', got 0",
        ),
        (
            message(("INPUT0", "INT32", [0, 16]), ("INPUT1", "INT32", [0, 16]), raw_bytes=0),
            "[request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model 'simple'. "
            "Expected 64, got 0",
        ),
    ],
)
def test_the_first_fault_is_told_in_tritons_words(request_: pb.ModelInferRequest, expected: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        domain(request_, SIMPLE)
    assert str(raised.value) == expected


@pytest.mark.parametrize("shape", [[1, 8], [1, 1, 16], [1, -16], [16]])
def test_a_wrong_shape_is_told_with_the_batch_note(shape: list[int]) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        domain(message(("INPUT0", "INT32", shape), ("INPUT1", "INT32", [shape[0], 16])), SIMPLE)
    text = str(raised.value)
    if shape[0] == 16:
        assert text.endswith("inference request batch-size must be <= 8 for 'simple'")
    else:
        printed = ",".join(map(str, shape))
        assert (
            f"unexpected shape for input 'INPUT0' for model 'simple'. Expected [-1,16], got [{printed}]. NOTE: Set"
            in text
        )


def test_a_negative_wildcard_dimension_is_refused() -> None:
    request = pb.ModelInferRequest(model_name="free")
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[-1])
    request.raw_input_contents.append(b"")
    with pytest.raises(InvalidArgumentError, match=r"All input dimensions should be specified .* got \[-1\]"):
        domain(request, FREE)


def test_optional_inputs_may_be_left_out() -> None:
    request = pb.ModelInferRequest(model_name="free")
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[3])
    request.raw_input_contents.append(bytes(12))
    assert list(domain(request, FREE).inputs) == ["INPUT0"]


def test_missing_inputs_of_a_model_with_optional_ones_name_the_range() -> None:
    with pytest.raises(
        InvalidArgumentError, match="expected number of inputs between 1 and 2 but got 0 inputs"
    ):
        domain(pb.ModelInferRequest(model_name="free"), FREE)


@pytest.mark.parametrize(
    ("text", "version"),
    [("", None), ("1", 1), ("0", 0), ("12", 12), (" 3", 3), ("1abc", 1), ("0" * 5_000 + "7", 7)],
)
def test_versions_that_can_be_asked_for(text: str, version: int | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "abc",
            "failed to get model version from specified version string 'abc' (details: stol), version should be",
        ),
        ("\u0661", "failed to get model version from specified version string '\u0661'"),
        (str(2**63), "failed to get model version from specified version string '9223372036854775808'"),
        ("9" * 5_000, f"failed to get model version from specified version string '{'9' * 5_000}'"),
        ("-1", "invalid model version specified '-1' , version should be an integral value > 0"),
    ],
)
def test_versions_that_cannot(text: str, expected: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        parse_version(text)
    assert expected in str(raised.value)


def test_the_answer_echoes_name_and_id_and_says_which_version_ran() -> None:
    array = np.arange(16, dtype=np.int32).reshape(1, 16)
    response = InferResponse(ModelKey("simple", 3), {"OUTPUT0": array})
    answer = reply(response, pb.ModelInferRequest(model_name="simple", id="x"), 10_000)
    assert (answer.model_name, answer.model_version, answer.id) == ("simple", "3", "x")
    assert answer.outputs[0].datatype == "INT32"
    assert list(answer.outputs[0].shape) == [1, 16]
    assert answer.raw_output_contents[0] == array.tobytes()


def test_an_answer_larger_than_a_message_may_be_is_refused_in_tritons_words() -> None:
    response = InferResponse(ModelKey("simple", 1), {"OUTPUT0": np.zeros((1, 16), np.int32)})
    with pytest.raises(
        InvalidArgumentError, match=r"Response has byte size \d+ which exceeds gRPC's byte size limit 200"
    ):
        reply(response, pb.ModelInferRequest(model_name="simple"), 200)


def test_what_a_scheduler_needs_is_taken_from_the_parameters() -> None:
    request = message(I0, I1)
    request.parameters["sequence_id"].int64_param = -1
    request.parameters["sequence_start"].bool_param = True
    request.parameters["priority"].uint64_param = 2
    request.parameters["timeout"].int64_param = 500
    request.parameters["mine"].string_param = "x"
    got = domain(request, SIMPLE, parameters=read_parameters(request.parameters, {"header": "y"}))
    assert (got.sequence_id, got.sequence_start, got.sequence_end) == (2**64 - 1, True, False)
    assert (got.priority, got.timeout_us) == (2, 500)
    assert got.parameters == {"mine": "x", "header": "y"}


def test_data_that_came_beside_the_message_is_viewed() -> None:
    request = message(I0, I1)
    del request.raw_input_contents[:]
    body = np.arange(32, dtype="<i4")
    view = memoryview(body.tobytes())
    got = domain(request, SIMPLE, data=[view[:64], view[64:]])
    assert got.inputs["INPUT1"].tolist() == [list(range(16, 32))]
    assert np.shares_memory(got.inputs["INPUT1"], np.frombuffer(view, np.uint8))


def test_data_missing_beside_the_message_is_told() -> None:
    request = message(I0, I1)
    with pytest.raises(InvalidArgumentError, match="unable to find data for input tensor 'INPUT1'"):
        domain(request, SIMPLE, data=[bytes(64), None])


def test_an_input_in_a_region_that_nobody_registered_is_not_found() -> None:
    request = message(I0, I1)
    request.inputs[0].parameters["shared_memory_region"].string_param = "nope"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 64
    with pytest.raises(NotFoundError, match="Unable to find shared memory region: 'nope'"):
        domain(request, SIMPLE)


def test_an_input_in_a_region_is_copied_once_and_the_region_given_back() -> None:
    region = Ones(4_096)
    table = table_of(region)
    request = domain(in_region(message(I0, I1), 64), SIMPLE, regions=table)
    assert request.inputs["INPUT1"].tolist() == [[0x01010101] * 16]
    assert region.copied == 128
    table.unregister(Ones, "ones")
    assert region.closed


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (message(I0, I1), "input byte size mismatch for input 'INPUT0' .* Expected 64, got 1073741824"),
        (message(I0), "expected 2 inputs but got 1 inputs"),
        (message(I0, ("X", "INT32", [1, 16])), "unexpected inference input 'X'"),
        (message(*[(f"I{i}", "INT32", [1, 16]) for i in range(1_000)]), "but got 1000 inputs"),
    ],
    ids=["too many bytes", "too few inputs", "unknown input", "a thousand inputs"],
)
def test_a_request_that_is_refused_copies_no_shared_memory(
    request_: pb.ModelInferRequest, fault: str
) -> None:
    """Some kilobytes could name terabytes, which an object of shared memory may claim for free."""
    region = Ones(2**30)
    table = table_of(region)
    with pytest.raises(InvalidArgumentError, match=fault):
        domain(in_region(request_, 2**30), SIMPLE, regions=table)
    assert region.copied == 0
    table.unregister(Ones, "ones")
    assert region.closed


@pytest.mark.parametrize(("more", "is_heavy"), [(0, False), (1, True)])
def test_a_large_copy_of_shared_memory_is_heavy(more: int, is_heavy: bool) -> None:
    request = in_region(message(I0), HEAVY_SHARED_BYTES + more)
    with ExitStack() as leases:
        contents = bind_contents(request, None, table_of(Ones(2**30)), leases)
        assert is_heavy_request(request, contents) == is_heavy


def test_a_refusal_quotes_a_hundred_of_a_million_names_and_dims() -> None:
    """Or a message of megabytes is made of one, on the loop's thread."""
    many = message(*[(f"I{i:06}", "INT32", [1, 16]) for i in range(1_000)], raw_bytes=0)
    with pytest.raises(InvalidArgumentError, match=r"got 1000 inputs .*'I000099',\.\.\.\], but missing"):
        domain(many, SIMPLE)
    long = message((I0[0], I0[1], [1] * 1_000), I1)
    with pytest.raises(InvalidArgumentError, match=r"Expected \[-1,16\], got \[(1,){100}\.\.\.\]"):
        domain(long, SIMPLE)
