"""Batches of ragged inputs end before they hold more bytes than one may."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.schedulers import running_scheduler
from support.sequences import SequenceSession, item, sequence_config
from support.sessions import GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.config.sequence_config import OldestStrategy
from naiad.core.datatypes import DataType
from naiad.core.tensors import InferRequest
from naiad.scheduling.batching import BatchPolicy, Run, next_batch
from naiad.scheduling.queue import PendingRequest
from naiad.scheduling.ragged import RaggedLayout
from naiad.scheduling.ragged_scheduler import RaggedQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array, InferResponse, Tensors

FLOAT_BYTES = 4
CONFIG = ModelConfig(
    name="m",
    max_batch_size=8,
    inputs=(
        TensorConfig("INPUT0", DataType.FP32, (-1,), ragged=True),
        TensorConfig("PLAIN", DataType.FP32, (100,)),
    ),
    outputs=(TensorConfig("SUM", DataType.FP32, (1,)),),
    dynamic_batching=DynamicBatching((8,), max_queue_delay_us=200_000),
)


def request(elements: int) -> InferRequest:
    """Beside the ragged input there is one whose bytes do not count."""
    return InferRequest(
        "m",
        None,
        {"INPUT0": np.zeros((1, elements), np.float32), "PLAIN": np.zeros((1, 100), np.float32)},
    )


class CountingSession(GatedSession):
    """Remembers how many elements of INPUT0 and how many rows of PLAIN each run had."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[tuple[int, int]] = []

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        rows = len(inputs["PLAIN"])
        self.runs.append((len(inputs["INPUT0"]), rows))
        super().run({"INPUT0": inputs["INPUT0"]}, ())
        return {"SUM": np.zeros((rows, 1), np.float32)}


async def reasons(config: ModelConfig, *elements: int, limit: int) -> tuple[list[tuple[int, int]], list[str]]:
    """The runs of requests that wait together, and why each was formed."""
    session = CountingSession()
    session.open()
    async with running_scheduler(config, session, max_ragged_batch_bytes=limit * FLOAT_BYTES) as (running, _):
        futures = [running.submit(request(each)) for each in elements]
        done: list[InferResponse] = await asyncio.wait_for(asyncio.gather(*futures), 20)
    return session.runs, [each.batch_reason for each in done]


async def test_a_batch_goes_before_it_holds_too_much_without_waiting_for_the_delay() -> None:
    runs, why = await reasons(CONFIG, 40, 60, 5, *[12] * 8, limit=100)
    assert runs == [(100, 2), (5 + 7 * 12, 8), (12, 1)]
    assert why == ["misfit"] * 2 + ["preferred"] * 8 + ["delay"]


async def test_a_request_beyond_the_limit_runs_alone() -> None:
    runs, why = await reasons(CONFIG, 500, 1, 500, *[1] * 8, limit=100)
    assert runs[:3] == [(500, 1), (1, 1), (500, 1)]
    assert why[:3] == ["misfit"] * 3


async def test_sequences_of_the_oldest_strategy_are_bounded_too() -> None:
    config = sequence_config(OldestStrategy(max_candidate_sequences=4), dims=(-1,))
    ragged = ModelConfig(
        name="m",
        max_batch_size=4,
        inputs=(TensorConfig("INPUT", DataType.INT32, (-1,), ragged=True),),
        outputs=config.outputs,
        sequence_batching=config.sequence_batching,
    )
    session = RaggedSequences()
    async with running_scheduler(ragged, session, max_ragged_batch_bytes=100) as (running, _):
        blocker = running.submit(item(9, 0, "SE"))
        await session.run_began()
        futures = [running.submit(item(number, 1, "SE", width=10)) for number in range(1, 5)]
        session.open()
        await asyncio.gather(blocker, *futures)
    assert session.elements == [1, 20, 20]


class RaggedSequences(SequenceSession):
    """Remembers how many elements each run had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[int] = []

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        self.elements.append(len(inputs["INPUT"]))
        rows = len(inputs["READY"])
        GatedSession.run(self, {"INPUT0": inputs["INPUT"]}, ())
        return {name: np.zeros((rows, 1), np.int32) for name in outputs}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 3)), min_size=1, max_size=30), st.integers(1, 120)
)
def test_every_batch_is_as_large_as_both_limits_let_it_be(waiting: list[tuple[int, int]], limit: int) -> None:
    """By the decision alone: in order, none lost, none larger than it may be nor smaller than it could be."""
    queue = RaggedQueue(None, RaggedLayout(CONFIG), limit * FLOAT_BYTES)
    loop = asyncio.new_event_loop()
    try:
        for elements, items in waiting:
            each = InferRequest("m", None, {"INPUT0": np.zeros(elements, np.float32)}, batch_size=items)
            queue.push(PendingRequest(each, loop.create_future(), arrived_ns=0))
        left = list(waiting)
        while queue:
            decision = next_batch(queue, 0, BatchPolicy(max_batch_size=8, preferred=(8,)))
            assert isinstance(decision, Run)
            batch = left[: decision.take]
            assert len(batch) == 1 or fits(batch, limit)
            assert len(left) == len(batch) or not fits(left[: len(batch) + 1], limit)
            assert [len(each.request.inputs["INPUT0"]) for each in queue.pop(decision.take)] == [
                elements for elements, _ in batch
            ]
            left = left[decision.take :]
        assert not left
    finally:
        loop.close()


def fits(batch: list[tuple[int, int]], limit: int) -> bool:
    return sum(elements for elements, _ in batch) <= limit and sum(items for _, items in batch) <= 8


@pytest.mark.parametrize("ragged", [True, False])
def test_only_ragged_inputs_count(*, ragged: bool) -> None:
    inputs = (TensorConfig("INPUT0", DataType.FP32, (-1,), ragged=ragged),)
    layout = RaggedLayout(ModelConfig("m", 8, inputs, ()))
    assert layout.input_bytes(request(10)) == (40 if ragged else 0)
