"""A request that would wait beyond its deadline is refused over either wire, which say when to try again."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
import pytest
from support.http import ask
from support.onnx_models import looping
from support.repositories import add_model
from support.servers import address, server
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.scheduling.admission import ENOUGH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from naiad.app import NaiadServer

CONFIG = """
max_batch_size: 1
input [
  { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "COUNT" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching {
  default_queue_policy { default_timeout_microseconds: 60000000 allow_timeout_override: true }
}
"""
SOME_TURNS = 5_000  # milliseconds
FOR_EVER = 2**62
WAITING = 200


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    add_model(tmp_path, "loop", looping(), CONFIG)
    async with server(tmp_path) as started:
        yield started


@pytest.fixture
async def stub(running: NaiadServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address(running)) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(turns: int = SOME_TURNS) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="loop")
    message.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
    message.inputs.add(name="COUNT", datatype="INT64", shape=[1, 1])
    message.raw_input_contents.append(np.zeros(1, np.float32).tobytes())
    message.raw_input_contents.append(np.array([turns]).tobytes())
    return message


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop to others until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the state has no event, and needs none but here
            await asyncio.sleep(0.001)


class Crowd:
    """A model that was measured, is busy for ever and has a queue; when its callers leave, it is free again."""

    def __init__(self, running: NaiadServer, stub: Any) -> None:
        [self.serving] = running.manager.ready_versions("loop")
        self._stub = stub
        self._calls: list[Any] = []

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._stub.ModelInfer(request()) for _ in range(ENOUGH)))
        await self.occupy()
        self._calls += [self._stub.ModelInfer(request()) for _ in range(WAITING)]
        await until(lambda: self.serving.scheduler.queued == WAITING)
        return self

    async def occupy(self) -> None:
        """Keep the only instance busy."""
        self._calls.append(self._stub.ModelInfer(request(FOR_EVER)))
        await until(lambda: self.serving.scheduler.busy == 1)

    async def leave(self) -> None:
        """Cancel every call."""
        for call in self._calls:
            call.cancel()
        await until(lambda: not self.serving.scheduler.busy and not self.serving.scheduler.queued)

    async def __aexit__(self, *_: object) -> None:
        await self.leave()


async def test_grpc_is_told_at_once_and_when_to_try_again(running: NaiadServer, stub: Any) -> None:
    async with Crowd(running, stub) as crowd:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(request(), timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "a request for 'loop/1' would now wait about" in str(caught.value.details())
        assert "its deadline is in" in str(caught.value.details())
        trailers: Any = caught.value.trailing_metadata()
        assert 1 <= int(trailers["grpc-retry-pushback-ms"]) < 60_000
        assert crowd.serving.statistics.fail.count == 0


async def test_http_is_told_at_once_and_when_to_try_again(running: NaiadServer, stub: Any) -> None:
    body = {
        "inputs": [
            {"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [0]},
            {"name": "COUNT", "datatype": "INT64", "shape": [1, 1], "data": [1]},
        ],
        "parameters": {"timeout": 1_000},
    }
    async with Crowd(running, stub):
        path = "/v2/models/loop/infer"
        answer = await ask(running.http_port, "POST", path, json.dumps(body).encode())
        assert answer.status == 429
        assert "its queue timeout is 1.0 ms (--admission-control)" in answer.error
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_caller_that_leaves_ends_its_run_and_the_next_one_is_answered(
    running: NaiadServer, stub: Any
) -> None:
    """The run would never end by itself."""
    crowd = Crowd(running, stub)
    await crowd.occupy()
    await crowd.leave()
    counted = crowd.serving.statistics
    assert (counted.execution_count, counted.terminated_count, counted.wasted_items) == (0, 1, 1)
    answer = await stub.ModelInfer(request(7))
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [7]


async def test_a_deadline_that_passes_while_the_model_runs_ends_its_run(
    running: NaiadServer, stub: Any
) -> None:
    [serving] = running.manager.ready_versions("loop")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request(FOR_EVER), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: serving.statistics.terminated_count == 1 and serving.scheduler.busy == 0)


async def test_an_http_caller_that_closes_its_connection_ends_its_run(running: NaiadServer) -> None:
    [serving] = running.manager.ready_versions("loop")
    body = {
        "inputs": [
            {"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [0]},
            {"name": "COUNT", "datatype": "INT64", "shape": [1, 1], "data": [FOR_EVER]},
        ]
    }
    asking = asyncio.create_task(
        ask(running.http_port, "POST", "/v2/models/loop/infer", json.dumps(body).encode())
    )
    await until(lambda: serving.scheduler.busy == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: serving.scheduler.busy == 0)
    assert serving.statistics.terminated_count == 1
