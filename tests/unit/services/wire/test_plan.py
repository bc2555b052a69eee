"""A plan makes of a message what the long way makes of it, and is made only where a head says all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import CallerFaultError, InvalidArgumentError
from naiad.core.tensors import InferRequest, InferResponse, ModelKey
from naiad.services.shared_memory.regions import Regions
from naiad.services.wire.plan import MAX_FRAMES, MAX_PLANS, MAX_SHARED_BYTES, InferPlan, InferPlans

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = ModelConfig(
    name="m",
    max_batch_size=8,
    inputs=(TensorConfig("A", DataType.FP32, (4,)), TensorConfig("B", DataType.UINT8, (2,))),
    outputs=(TensorConfig("OUT", DataType.FP32, (4,)),),
)
A = np.arange(8, dtype=np.float32).reshape(2, 4)
B = np.arange(4, dtype=np.uint8).reshape(2, 2)
REQUEST = InferRequest("m", None, {"A": A, "B": B}, ("OUT",), 2, priority=1, timeout_us=5)


def message(request_id: str = "", a: np.ndarray = A, b: np.ndarray = B) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m", id=request_id, raw_input_contents=[a.tobytes(), b.tobytes()])
    made.inputs.add(name="A", datatype="FP32", shape=[2, 4])
    made.inputs.add(name="B", datatype="UINT8", shape=[2, 2])
    made.outputs.add(name="OUT")
    return made


def learnt(request: InferRequest = REQUEST, sent: pb.ModelInferRequest | None = None) -> InferPlans:
    plans = InferPlans()
    sent = sent or message("first")
    plans.learn(sent.SerializeToString(), sent, request, None, CONFIG)
    return plans


@pytest.mark.parametrize("request_id", ["", "second", "é" * 100])
def test_the_next_request_of_a_kind_is_made_of_views_of_its_message(request_id: str) -> None:
    data = message(request_id, A + 1, B + 1).SerializeToString()
    found = learnt().find(data)
    assert found is not None
    plan, scanned = found
    request = plan.request(data, scanned, 99)
    assert request is not None
    assert replace(request, inputs={}) == replace(REQUEST, inputs={}, request_id=request_id, deadline_ns=99)
    np.testing.assert_array_equal(request.inputs["A"], A + 1)
    np.testing.assert_array_equal(request.inputs["B"], B + 1)
    assert {array.flags.writeable for array in request.inputs.values()} == {False}
    whole = np.frombuffer(data, np.uint8)
    assert all(np.shares_memory(array, whole) for array in request.inputs.values())


def test_data_of_another_length_is_left_to_the_long_way() -> None:
    plans = learnt()
    for raw in ([b"", B.tobytes()], [A.tobytes() + b"x", B.tobytes()], [A.tobytes()], [A.tobytes()] * 3):
        sent = message()
        del sent.raw_input_contents[:]
        sent.raw_input_contents.extend(raw)
        data = sent.SerializeToString()
        found = plans.find(data)
        assert found is not None
        assert found[0].request(data, found[1], None) is None


def test_an_id_that_is_no_text_is_left_to_the_long_way() -> None:
    data = message("abc").SerializeToString().replace(b"abc", b"\xff\xff\xff")
    found = learnt().find(data)
    assert found is not None
    assert found[0].request(data, found[1], None) is None


def without_contents() -> pb.ModelInferRequest:
    sent = message()
    sent.inputs[0].contents.fp32_contents.extend(A.reshape(-1))
    del sent.raw_input_contents[0]
    return sent


def with_parameter(where: str, key: str = "classification") -> pb.ModelInferRequest:
    sent = message()
    target = {"request": sent, "input": sent.inputs[0], "output": sent.outputs[0]}[where]
    target.parameters[key].int64_param = 1
    return sent


def in_shared_memory(name: str, byte_size: int) -> pb.ModelInferRequest:
    """The named tensor lies at byte 4 of region `r`."""
    sent = message()
    for tensor in (*sent.inputs, *sent.outputs):
        if tensor.name == name:
            tensor.parameters["shared_memory_region"].string_param = "r"
            tensor.parameters["shared_memory_offset"].int64_param = 4
            tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    if name == "A":
        del sent.raw_input_contents[0]
    return sent


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (replace(REQUEST, sequence_id=3), message()),
        (REQUEST, without_contents()),
        (REQUEST, with_parameter("output")),
        (REQUEST, with_parameter("request", "naiad_explain")),
        (replace(REQUEST, inputs={"A": np.array([b"text"], object), "B": B}), message()),
        (replace(REQUEST, inputs={"A": np.empty((0, 4), np.float32), "B": B}), message()),
    ],
    ids=["sequence", "typed contents", "classes", "explained", "texts", "empty"],
)
def test_what_a_head_does_not_say_all_about_is_not_learnt(
    request_: InferRequest, sent: pb.ModelInferRequest
) -> None:
    assert len(learnt(request_, sent)) == 0


@pytest.mark.parametrize("defers", [False, True])
def test_tensors_in_shared_memory_are_read_and_written_there(tmp_path: Path, *, defers: bool) -> None:
    """Input A and the output lie in one region, input B comes with the message; nothing stays leased."""
    regions = Regions(allow_client_shm=True, folder=tmp_path)
    (tmp_path / "key").write_bytes(bytes(4) + (A + 5).tobytes())
    regions.register_system("r", "/key", 0, 4 + A.nbytes)
    sent = in_shared_memory("A", A.nbytes)
    sent.outputs[0].CopyFrom(in_shared_memory("OUT", A.nbytes).outputs[0])
    data = sent.SerializeToString()
    found = learnt(REQUEST, sent).find(data)
    assert found is not None
    plan, scanned = found
    shared = plan.lease(regions, defers=defers)
    assert shared is not None
    request = plan.request(data, scanned, None, shared)
    assert request is not None
    np.testing.assert_array_equal(request.inputs["B"], B)
    given = request.inputs["A"]
    assert (given.shape, given.dtype) == (A.shape, A.dtype)
    if defers:
        assert request.sources is not None
        given = np.empty_like(A)
        request.sources["A"].read_into(given)
    np.testing.assert_array_equal(given, A + 5)
    response = InferResponse(ModelKey("m", 1), {"OUT": A * 2})
    if defers:
        assert request.sink is not None
        request.sink.write(response.outputs)
    else:
        assert (request.sources, request.sink) == (None, None)
    shared.end_copying()
    plan.share(response, shared)
    reply = pb.ModelInferResponse.FromString(plan.reply(response, b"", 1_000))
    assert (list(reply.outputs[0].shape), list(reply.raw_output_contents)) == ([2, 4], [b""])
    assert (tmp_path / "key").read_bytes()[4:] == (A * 2).tobytes()
    shared.release()
    regions.unregister_system("r")
    assert regions.system_status("") == []


def test_much_shared_memory_is_left_to_the_long_way_where_only_the_loop_could_copy_it(tmp_path: Path) -> None:
    regions = Regions(allow_client_shm=True, folder=tmp_path)
    with (tmp_path / "key").open("wb") as file:
        file.truncate(4 + MAX_SHARED_BYTES + 1)
    regions.register_system("r", "/key", 0, 4 + MAX_SHARED_BYTES + 1)
    for byte_size, may_be_copied in ((MAX_SHARED_BYTES, True), (MAX_SHARED_BYTES + 1, False)):
        plan = InferPlan(in_shared_memory("A", byte_size), REQUEST, None, CONFIG)
        deferred, copied = plan.lease(regions, defers=True), plan.lease(regions, defers=False)
        assert deferred is not None
        assert (copied is not None) == may_be_copied
        deferred.release()
        if copied is not None:
            copied.release()
    regions.unregister_system("r")
    assert regions.system_status("") == [], "one is still leased"


def test_of_two_outputs_that_do_not_fit_their_memory_the_first_by_name_is_told(tmp_path: Path) -> None:
    """As on the long way, in whatever order they are asked for."""
    regions = Regions(allow_client_shm=True, folder=tmp_path)
    (tmp_path / "key").write_bytes(bytes(8))
    regions.register_system("r", "/key", 0, 8)
    sent = message()
    del sent.outputs[:]
    for name in ("Z", "OUT"):
        wanted = sent.outputs.add(name=name)
        wanted.parameters["shared_memory_region"].string_param = "r"
        wanted.parameters["shared_memory_byte_size"].int64_param = 4
    outputs = tuple(TensorConfig(name, DataType.FP32, (4,)) for name in ("OUT", "Z"))
    plan = InferPlan(sent, REQUEST, None, replace(CONFIG, outputs=outputs))
    for defers in (False, True):
        shared = plan.lease(regions, defers=defers)
        assert shared is not None
        response = InferResponse(ModelKey("m", 1), {"OUT": A, "Z": A})
        with pytest.raises(CallerFaultError, match="for output 'OUT'"):
            shared.sink.write(response.outputs) if shared.sink else plan.share(response, shared)
    regions.close()


def test_other_shapes_and_parameters_are_other_kinds() -> None:
    other_shape, other_priority = message(), message()
    other_shape.inputs[0].shape[0] = 1
    other_priority.parameters["priority"].uint64_param = 2
    for other in (other_shape, other_priority):
        assert learnt().find(other.SerializeToString()) is None


def test_the_answer_is_what_protobuf_would_write_for_each_shape_and_version() -> None:
    plans = learnt()
    data = message("id").SerializeToString()
    found = plans.find(data)
    assert found is not None
    plan, scanned = found
    for version, rows in ((1, 2), (2, 2), (2, 1), *((3, rows) for rows in range(2 * MAX_FRAMES))):
        array = np.full((rows, 4), rows, np.float32)
        response = InferResponse(ModelKey("m", version), {"OUT": array})
        reply = pb.ModelInferResponse.FromString(plan.reply(response, scanned.id_field, 10_000))
        assert (reply.id, reply.model_version) == ("id", str(version))
        assert list(reply.outputs[0].shape) == [rows, 4]
        assert reply.raw_output_contents[0] == array.tobytes()
        with pytest.raises(InvalidArgumentError, match="limit 50"):
            plan.stream_reply(response, scanned.id_field, 50)


def test_the_number_of_plans_is_bounded_and_the_oldest_goes() -> None:
    plans = InferPlans()
    sent = message()
    for number in range(MAX_PLANS + 5):
        sent.model_name = f"m{number}"
        plans.learn(sent.SerializeToString(), sent, REQUEST, None, CONFIG)
    assert len(plans) == MAX_PLANS
    assert plans.find(sent.SerializeToString()) is not None
    sent.model_name = "m0"
    assert plans.find(sent.SerializeToString()) is None
