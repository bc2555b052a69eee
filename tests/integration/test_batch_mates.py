"""One caller's cancellation, deadline or bad input, in each phase, over the wire: its batch-mates never notice."""

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
max_batch_size: 8
input [
  { name: "INPUT" data_type: TYPE_FP32 dims: [ 400, 400 ] },
  { name: "INDEX" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 400, 400 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching { preferred_batch_size: [ 3 ] }
"""
QUEUED, RUNNING = "queued", "running"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> RunGate:
    return RunGate(monkeypatch)


@pytest.fixture
async def running(tmp_path: Path, gate: RunGate) -> AsyncIterator[NaiadServer]:
    # The gate says how long a run takes; without it the loop's own thread may run what takes so little.
    add_model(tmp_path, "slow", slow(steps=1), CONFIG)
    async with server(tmp_path, max_inline_run_us=0) as started:
        yield started
        gate.open()


@pytest.fixture
async def stub(running: NaiadServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address(running)) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(value: float, *, index: int = 0) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="slow")
    message.inputs.add(name="INPUT", datatype="FP32", shape=[1, SLOW_SIZE, SLOW_SIZE])
    message.inputs.add(name="INDEX", datatype="INT64", shape=[1, 1])
    message.raw_input_contents.append(np.full((SLOW_SIZE, SLOW_SIZE), value, np.float32).tobytes())
    message.raw_input_contents.append(np.array([index], np.int64).tobytes())
    return message


def value_of(answer: pb.ModelInferResponse) -> float:
    array = np.frombuffer(answer.raw_output_contents[0], np.float32)
    assert array.size == SLOW_SIZE * SLOW_SIZE
    assert (array == array[0]).all()
    return float(array[0])


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop to others until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the state has no event, and needs none but here
            await asyncio.sleep(0.001)


class Phases:
    """Brings requests into the wanted phase behind one that keeps the only instance busy."""

    def __init__(self, running: NaiadServer, stub: Any, gate: RunGate) -> None:
        [self._serving] = running.manager.ready_versions("slow")
        self._stub = stub
        self._gate = gate
        self.first: Any = None

    @property
    def executions(self) -> int:
        return self._serving.statistics.execution_count

    @property
    def batch_sizes(self) -> list[int]:
        return sorted(self._serving.statistics.batches)

    @property
    def queued(self) -> int:
        return self._serving.scheduler.queued

    async def bring(self, calls: Callable[[], list[Any]], phase: str) -> list[Any]:
        """Start the calls; return them when all are queued, or when the batch of them runs.

        There they stay until the gate is opened.
        """
        scheduler = self._serving.scheduler
        self._gate.shut()
        self.first = self._stub.ModelInfer(request(1))
        await until(lambda: scheduler.busy == 1)
        started = calls()
        await until(lambda: scheduler.queued == len(started))
        if phase == RUNNING:
            self._gate.let_one_go()
            await until(lambda: scheduler.queued == 0 and scheduler.busy == 1)
        return started


@pytest.fixture
def phases(running: NaiadServer, stub: Any, gate: RunGate) -> Phases:
    return Phases(running, stub, gate)


@pytest.mark.parametrize("phase", [QUEUED, RUNNING])
async def test_a_cancelled_caller(phases: Phases, stub: Any, gate: RunGate, phase: str) -> None:
    left, cancelled, right = await phases.bring(
        lambda: [stub.ModelInfer(request(value)) for value in (2, 3, 4)], phase
    )
    cancelled.cancel()
    if phase == QUEUED:
        await until(lambda: phases.queued == 2)
    gate.open()
    assert value_of(await phases.first) == 1
    assert value_of(await left) == 2
    assert value_of(await right) == 4
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    # A caller that left in the queue is not computed; one that left later was in the batch already.
    assert phases.batch_sizes == ([1, 2] if phase == QUEUED else [1, 3])


async def test_a_deadline_that_expires_in_the_queue(phases: Phases, stub: Any, gate: RunGate) -> None:
    left, right = await phases.bring(lambda: [stub.ModelInfer(request(value)) for value in (2, 4)], QUEUED)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.ModelInfer(request(3), timeout=0.5)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: phases.queued == 2)
    gate.open()
    assert [value_of(await call) for call in (phases.first, left, right)] == [1, 2, 4]
    assert phases.batch_sizes == [1, 2]


async def test_a_deadline_that_expires_while_its_batch_runs(phases: Phases, stub: Any, gate: RunGate) -> None:
    left, late, right = await phases.bring(
        lambda: [
            stub.ModelInfer(request(2)),
            stub.ModelInfer(request(3), timeout=2),
            stub.ModelInfer(request(4)),
        ],
        RUNNING,
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await late
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    gate.open()
    assert [value_of(await call) for call in (phases.first, left, right)] == [1, 2, 4]
    assert phases.batch_sizes == [1, 3]


async def test_a_bad_value_in_a_running_batch(phases: Phases, stub: Any, gate: RunGate) -> None:
    left, bad, right = await phases.bring(
        lambda: [
            stub.ModelInfer(request(2)),
            stub.ModelInfer(request(3, index=9)),
            stub.ModelInfer(request(4)),
        ],
        RUNNING,
    )
    gate.open()
    assert value_of(await left) == 2
    assert value_of(await right) == 4
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await bad
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "9" in str(raised.value.details())
    await phases.first


async def test_a_malformed_request_never_reaches_the_queue(phases: Phases, stub: Any, gate: RunGate) -> None:
    malformed = request(3)
    malformed.raw_input_contents[0] = b"short"
    gate.shut()
    phases.first = stub.ModelInfer(request(1))
    calls = [stub.ModelInfer(request(2)), stub.ModelInfer(malformed), stub.ModelInfer(request(4))]
    with pytest.raises(grpc.aio.AioRpcError, match="input byte size mismatch"):
        await calls[1]
    gate.open()
    assert [value_of(await call) for call in (phases.first, calls[0], calls[2])] == [1, 2, 4]
