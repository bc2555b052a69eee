"""Queue policies over the wire, as Triton's golden cases have them: timeouts, limits, priorities, order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from support.gates import RunGate
from support.onnx_models import SLOW_SIZE, slow
from support.repositories import add_model
from support.servers import address, server
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from naiad.app import NaiadServer

CONFIG = """
max_batch_size: 1
input [
  { name: "INPUT" data_type: TYPE_FP32 dims: [ 400, 400 ] },
  { name: "INDEX" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 400, 400 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
POLICIES = {
    "slow_queue": "default_queue_policy { default_timeout_microseconds: 1000 allow_timeout_override: true }",
    "slow_long": (
        "default_queue_policy { default_timeout_microseconds: 60000000 allow_timeout_override: true }"
    ),
    "slow_maxq": "default_queue_policy { max_queue_size: 2 }",
    "slow_prio": "priority_levels: 2 default_priority_level: 2",
    "slow_plain": "",
}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> RunGate:
    return RunGate(monkeypatch)


@pytest.fixture
async def running(tmp_path: Path, gate: RunGate) -> AsyncIterator[NaiadServer]:
    # The gate says how long a run takes; without it the loop's own thread may run what takes so little.
    graph = slow(steps=1)
    for name, policy in POLICIES.items():
        add_model(tmp_path, name, graph, f"{CONFIG} dynamic_batching {{ {policy} }}")
    async with server(tmp_path, max_inline_run_us=0) as started:
        gate.shut()
        yield started
        gate.open()


@pytest.fixture
async def stub(running: NaiadServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address(running)) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(model: str, *, priority: int = 0, timeout_us: int = 0) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model)
    message.inputs.add(name="INPUT", datatype="FP32", shape=[1, SLOW_SIZE, SLOW_SIZE])
    message.inputs.add(name="INDEX", datatype="INT64", shape=[1, 1])
    message.raw_input_contents.append(np.zeros((SLOW_SIZE, SLOW_SIZE), np.float32).tobytes())
    message.raw_input_contents.append(np.zeros(1, np.int64).tobytes())
    if priority:
        message.parameters["priority"].int64_param = priority
    if timeout_us:
        message.parameters["timeout"].int64_param = timeout_us
    return message


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop to others until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the state has no event, and needs none but here
            await asyncio.sleep(0.001)


class Queue:
    """Sends requests to one model in a known order: each is queued before the next one is sent.

    The first one runs until the gate is opened.
    """

    def __init__(self, running: NaiadServer, stub: Any, model: str) -> None:
        [self.serving] = running.manager.ready_versions(model)
        self._stub = stub
        self._model = model

    async def occupy(self, **fields: int) -> Any:
        """Keep the only instance busy."""
        call = self._stub.ModelInfer(request(self._model, **fields))
        await until(lambda: self.serving.scheduler.busy == 1)
        return call

    async def add(self, **fields: int) -> Any:
        """One more that waits."""
        waiting = self.serving.scheduler.queued
        call = self._stub.ModelInfer(request(self._model, **fields))
        await until(lambda: self.serving.scheduler.queued > waiting or call.done())
        return call


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return caught.value


async def failures(stub: Any, model: str) -> int:
    statistics = await stub.ModelStatistics(pb.ModelStatisticsRequest(name=model))
    return int(statistics.model_stats[0].inference_stats.fail.count)


@pytest.mark.parametrize(
    ("model", "timeout_us"),
    [
        ("slow_queue", 0),
        ("slow_queue", 2_000_000),  # a longer one of the request's own does not count
        ("slow_long", 1_000),
    ],
)
async def test_a_queue_timeout(
    running: NaiadServer, stub: Any, gate: RunGate, model: str, timeout_us: int
) -> None:
    queue = Queue(running, stub, model)
    first = await queue.occupy(timeout_us=timeout_us)
    refusal = await refused(await queue.add(timeout_us=timeout_us))
    assert refusal.details() == "Request timeout expired"
    gate.open()
    await first
    assert await failures(stub, model) == 1


async def test_a_timeout_without_a_policy_is_ignored(running: NaiadServer, stub: Any, gate: RunGate) -> None:
    queue = Queue(running, stub, "slow_plain")
    calls = [await queue.occupy(timeout_us=1), await queue.add(timeout_us=1)]
    gate.open()
    await asyncio.gather(*calls)


async def test_max_queue_size(running: NaiadServer, stub: Any, gate: RunGate) -> None:
    queue = Queue(running, stub, "slow_maxq")
    accepted = [await queue.occupy(), await queue.add(), await queue.add()]
    refusal = await refused(await queue.add())
    assert str(refusal.details()).startswith("[request id: <id_unknown>] Exceeds maximum queue size")
    gate.open()
    await asyncio.gather(*accepted)
    assert await failures(stub, "slow_maxq") == 0


async def test_level_one_overtakes(running: NaiadServer, stub: Any, gate: RunGate) -> None:
    """Priorities 2, 2, 0 (the default) and 1, then one that is out of range."""
    queue = Queue(running, stub, "slow_prio")
    order: list[str] = []
    calls = {"running": await queue.occupy(priority=2)}
    for name, priority in (("second", 2), ("default", 0), ("first", 1), ("out of range", 3)):
        calls[name] = await queue.add(priority=priority)
    for name, call in calls.items():
        call.add_done_callback(lambda _, name=name: order.append(name))
    gate.open()
    await asyncio.gather(*calls.values())
    assert order == ["running", "first", "second", "default", "out of range"]
