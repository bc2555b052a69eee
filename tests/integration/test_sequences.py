"""Sequences over the wire, on real graphs: Triton's example models, its client, its words."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto
from support.ensembles import ensemble_text
from support.repositories import add_model
from support.sequences import CONTROL_INPUTS, IO, STATE, accumulate, dyna_sequence, lasting
from support.servers import address, server
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer

ONE = "instance_group [ { kind: KIND_CPU count: 1 } ]"
HEAD = f"max_batch_size: 4 {IO} {ONE}"
IDLE = "max_sequence_idle_microseconds: 60000000"
"""Longer than any test: no sequence ends because the machine is busy."""
OLDEST = "oldest { max_candidate_sequences: 8 max_queue_delay_microseconds: 300 }"
VALUES = (11, 7, 5, 3, 2, 0, 1)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    number, text = CONTROL_INPUTS % "UINT64", CONTROL_INPUTS % "STRING"
    add_model(tmp_path, "direct", dyna_sequence(), f"{HEAD} sequence_batching {{ {IDLE} {number} }}")
    add_model(tmp_path, "oldest", dyna_sequence(), f"{HEAD} sequence_batching {{ {IDLE} {OLDEST} {number} }}")
    add_model(
        tmp_path,
        "text",
        dyna_sequence(TensorProto.STRING),
        f"{HEAD} sequence_batching {{ {IDLE} {OLDEST} {text} }}",
    )
    add_model(tmp_path, "state", accumulate(), f"{HEAD} sequence_batching {{ {IDLE} {STATE % ''} }}")
    initial = 'initial_state { name: "start" data_type: TYPE_INT32 dims: [ 1 ] data_file: "hundred" }'
    folder = add_model(
        tmp_path, "filed", accumulate(), f"{HEAD} sequence_batching {{ {IDLE} {OLDEST} {STATE % initial} }}"
    )
    (folder / "initial_state").mkdir()
    (folder / "initial_state" / "hundred").write_bytes(struct.pack("<i", 100))
    add_model(tmp_path, "auto", dyna_sequence(), f"max_batch_size: 4 {ONE} sequence_batching {{ {number} }}")
    # A stream is answered in order, so it must be read as far as the END that frees a slot for what waits.
    async with server(tmp_path, stream_max_in_flight=100) as started:
        yield started


@pytest.fixture
async def stub(running: NaiadServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address(running)) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(model: str, sequence_id: int | str, value: int, flags: str = "") -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model)
    message.inputs.add(name="INPUT", datatype="INT32", shape=[1, 1])
    message.raw_input_contents.append(np.array([value], np.int32).tobytes())
    if isinstance(sequence_id, str):
        message.parameters["sequence_id"].string_param = sequence_id
    else:
        message.parameters["sequence_id"].int64_param = sequence_id
    message.parameters["sequence_start"].bool_param = "S" in flags
    message.parameters["sequence_end"].bool_param = "E" in flags
    return message


def sequence(model: str, sequence_id: int | str, values: tuple[int, ...]) -> list[pb.ModelInferRequest]:
    last = len(values) - 1
    return [
        request(model, sequence_id, value, ("S" if index == 0 else "") + ("E" if index == last else ""))
        for index, value in enumerate(values)
    ]


def value_of(answer: pb.ModelInferResponse) -> int:
    assert [output.name for output in answer.outputs] == ["OUTPUT"]
    return int(np.frombuffer(answer.raw_output_contents[0], np.int32)[0])


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def expected(sequence_id: int | str, values: tuple[int, ...]) -> list[int]:
    """What Triton's example model answers: START adds one, END the sequence's id."""
    added = list(values)
    added[0] += 1
    added[-1] += int(sequence_id)
    return added


@pytest.mark.parametrize(
    ("model", "ids"),
    [("direct", (1001, 1002, 3)), ("oldest", (1001, 1002, 3)), ("text", ("1001", "7")), ("auto", (5,))],
)
async def test_interleaved_sequences_of_the_example_model(
    stub: Any, model: str, ids: tuple[int | str, ...]
) -> None:
    async def play(sequence_id: int | str) -> list[int]:
        return [value_of(await stub.ModelInfer(message)) for message in sequence(model, sequence_id, VALUES)]

    answers = await asyncio.gather(*map(play, ids))
    assert answers == [expected(sequence_id, VALUES) for sequence_id in ids]


@pytest.mark.parametrize("model", ["direct", "oldest"])
async def test_a_stream_keeps_many_requests_of_many_sequences_in_flight(stub: Any, model: str) -> None:
    """More sequences than slots: the backlog empties as sequences end."""
    plays = {number: sequence(model, number, VALUES) for number in range(1, 13)}
    messages = [messages[step] for step in range(len(VALUES)) for messages in plays.values()]
    for index, message in enumerate(messages):
        message.id = str(index)
    got: dict[int, list[int]] = {number: [] for number in plays}
    async for reply in stub.ModelStreamInfer(iter(messages)):
        assert not reply.error_message
        asked = messages[int(reply.infer_response.id)]
        got[asked.parameters["sequence_id"].int64_param].append(value_of(reply.infer_response))
    assert got == {number: expected(number, VALUES) for number in plays}


@pytest.mark.parametrize(("model", "start"), [("state", 0), ("filed", 100)])
async def test_an_implicit_state_adds_up_and_is_no_output(stub: Any, model: str, start: int) -> None:
    for _ in range(2):  # the second sequence of the same id starts anew
        totals = [value_of(await stub.ModelInfer(message)) for message in sequence(model, 9, (1, 10, 100))]
        assert totals == [start + 1, start + 11, start + 111]


@pytest.mark.parametrize("first", ["two", "cached"])
async def test_an_ensemble_keeps_the_order_of_a_sequence(tmp_path: Path, first: str) -> None:
    """The first step takes long for the START alone, on two instances or with the others in its cache."""
    one_item = HEAD.replace("max_batch_size: 4", "max_batch_size: 1")
    add_model(tmp_path, "two", lasting(), one_item.replace("count: 1", "count: 2"))
    add_model(tmp_path, "cached", lasting(), f"{one_item} response_cache {{ enable: true }}")
    add_model(tmp_path, "state", accumulate(), f"{HEAD} sequence_batching {{ {IDLE} {STATE % ''} }}")
    steps = (
        (first, {"INPUT": "INPUT"}, {"OUTPUT": "middle"}),
        ("state", {"INPUT": "middle"}, {"OUTPUT": "OUTPUT"}),
    )
    (tmp_path / "E" / "1").mkdir(parents=True)
    (tmp_path / "E" / "config.pbtxt").write_text(
        ensemble_text(
            *steps, reads=["INPUT"], writes=["OUTPUT"], max_batch_size=1, datatype="TYPE_INT32", dims="[ 1 ]"
        )
    )
    async with (
        server(tmp_path, cache_config=("local,size=100000",)) as started,
        grpc.aio.insecure_channel(address(started)) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for value in (1, 2):
            await stub.ModelInfer(request(first, 0, value))
        for slow in (30, 31):  # the id is used again
            stream = stub.ModelStreamInfer(iter(sequence("E", 9, (slow, 1, 1, 2))))
            replies = [reply async for reply in stream]
            assert [reply.error_message for reply in replies] == [""] * 4
            sums = [value_of(reply.infer_response) for reply in replies]
            assert sums == [slow, slow + 1, slow + 2, slow + 4]


async def test_control_tensors_and_states_are_not_told_to_clients(stub: Any) -> None:
    for model in ("direct", "auto", "state"):
        metadata = await stub.ModelMetadata(pb.ModelMetadataRequest(name=model))
        assert [tensor.name for tensor in metadata.inputs] == ["INPUT"]
        assert [tensor.name for tensor in metadata.outputs] == ["OUTPUT"]
    config = (await stub.ModelConfig(pb.ModelConfigRequest(name="auto"))).config
    assert config.sequence_batching.max_sequence_idle_microseconds == 1_000_000
    assert not config.HasField("dynamic_batching")


async def test_sequence_errors_are_tritons(stub: Any) -> None:
    missing = request("direct", 0, 1, "S")
    assert (await refused(stub.ModelInfer(missing))).details() == (
        "inference request to model 'direct' must specify a non-zero or non-empty correlation ID"
    )
    not_started = await refused(stub.ModelInfer(request("oldest", 77, 1)))
    assert not_started.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not_started.details() == (
        "inference request for sequence 77 to model 'oldest' must specify the START flag on the first request "
        "of the sequence"
    )
    batch = request("state", 1, 1, "S")
    batch.inputs[0].shape[0] = 2
    batch.raw_input_contents[0] *= 2
    assert "must specify batch-size 1" in str((await refused(stub.ModelInfer(batch))).details())
    kind = await refused(stub.ModelInfer(request("direct", "abc", 1, "S")))
    assert kind.details() == (
        "[request id: <id_unknown>] sequence batching control 'CORRID' data-type is 'BYTES', but model "
        "'direct' expects 'UINT64'"
    )


async def test_a_client_cannot_send_a_control_tensor(stub: Any) -> None:
    message = request("direct", 1, 1, "S")
    message.inputs.add(name="START", datatype="INT32", shape=[1, 1])
    message.raw_input_contents.append(np.array([1], np.int32).tobytes())
    refusal = await refused(stub.ModelInfer(message))
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_statistics_count_requests_of_sequences(stub: Any) -> None:
    for message in sequence("direct", 4, VALUES):
        await stub.ModelInfer(message)
    await refused(stub.ModelInfer(request("direct", 4, 1)))
    counted = (await stub.ModelStatistics(pb.ModelStatisticsRequest(name="direct"))).model_stats[0]
    assert (counted.inference_count, counted.execution_count) == (len(VALUES), len(VALUES))
    assert counted.inference_stats.fail.count == 0  # refused before it was queued


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            f"{HEAD} sequence_batching {{ iterative_sequence: true }}",
            "sequence_batching.iterative_sequence is not supported",
        ),
        (f"{HEAD} sequence_batching {{}}", "configuration expects 1 inputs, model provides 5"),
        (
            f"{HEAD} sequence_batching {{ {(CONTROL_INPUTS % 'UINT64').replace('START', 'BEGIN', 1)} }}",
            "configuration specified sequence control 'BEGIN', but model does not provide that input",
        ),
    ],
)
async def test_a_block_that_does_not_fit_is_refused_by_name(tmp_path: Path, config: str, reason: str) -> None:
    add_model(tmp_path, "m", dyna_sequence(), config)
    async with (
        server(tmp_path, exit_on_error=False) as started,
        grpc.aio.insecure_channel(address(started)) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        index = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
        assert [entry.state for entry in index.models] == ["UNAVAILABLE"]
        assert reason in index.models[0].reason
