"""Inputs that are read when their batch is formed, and outputs that are taken where they are made."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.schedulers import running_scheduler
from support.sessions import POISON, DoublingSession, GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import CallerFaultError, InvalidArgumentError
from naiad.core.tensors import InferRequest, placeholder
from naiad.scheduling.tensors import KEPT_BYTES, BatchBuffer, BatchLayout

if TYPE_CHECKING:
    from naiad.core.tensors import Array, Tensors

CONFIG = ModelConfig(
    "m",
    8,
    (TensorConfig("INPUT0", DataType.FP32, (2,)),),
    (TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
    dynamic_batching=DynamicBatching(),
)


class Source:
    """Gives one value, or fails; remembers the threads that asked."""

    def __init__(self, value: float | None) -> None:
        self.value = value
        self.readers: list[threading.Thread] = []

    def read_into(self, target: Array) -> None:
        self.readers.append(threading.current_thread())
        if self.value is None:
            raise InvalidArgumentError("the region has become smaller")
        target[...] = self.value


class Sink:
    """Keeps what it is given, or refuses it."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.taken: list[float] = []

    def write(self, outputs: Tensors) -> None:
        if self.refuses:
            raise CallerFaultError("it does not fit")
        self.taken.append(float(outputs["OUTPUT0"][0, 0]))


def deferred(source: Source, rows: int = 1, **fields: Any) -> InferRequest:
    shape = placeholder((rows, 2), np.dtype(np.float32))
    return InferRequest("m", None, {"INPUT0": shape}, batch_size=rows, sources={"INPUT0": source}, **fields)


def plain(value: float) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((1, 2), value, np.float32)})


async def test_a_lone_request_is_read_on_the_instance_s_thread() -> None:
    source = Source(3)
    async with running_scheduler(CONFIG, DoublingSession()) as (running, _):
        assert running.defers
        response = await running.submit(deferred(source, rows=2))
    assert response.outputs["OUTPUT0"].tolist() == [[6, 6], [6, 6]]
    assert source.readers != [threading.main_thread()]


async def test_rows_from_sources_and_rows_of_messages_lie_in_one_batch_in_order() -> None:
    session = GatedSession()
    async with running_scheduler(CONFIG, session) as (running, _):
        first = running.submit(plain(0))
        await session.run_began()
        requests = [deferred(Source(1)), plain(2), deferred(Source(3), rows=2), plain(4)]
        answers = [running.submit(request) for request in requests]
        session.open()
        values = [(await answer).outputs["OUTPUT0"][:, 0].tolist() for answer in answers]
        await first
    assert values == [[2], [4], [6, 6], [8]]
    assert session.batches == [1, 5]


async def test_a_source_that_fails_fails_its_own_request_alone() -> None:
    session = GatedSession()
    async with running_scheduler(CONFIG, session) as (running, _):
        first = running.submit(plain(0))
        await session.run_began()
        good, bad, other = Source(1), Source(None), Source(3)
        answers = [running.submit(deferred(source)) for source in (good, bad, other)]
        session.open()
        assert (await answers[0]).outputs["OUTPUT0"][0, 0] == 2
        with pytest.raises(InvalidArgumentError, match="smaller"):
            await answers[1]
        assert (await answers[2]).outputs["OUTPUT0"][0, 0] == 6
        await first
    assert len(good.readers) == 2, "once with the batch, once alone"


async def test_a_sink_has_the_outputs_before_the_answer_is_there() -> None:
    sink = Sink()
    async with running_scheduler(CONFIG, DoublingSession()) as (running, _):
        await running.submit(deferred(Source(3), sink=sink))
        assert sink.taken == [6]


async def test_a_sink_that_refuses_fails_its_own_request_alone_and_nothing_runs_again() -> None:
    session = GatedSession()
    async with running_scheduler(CONFIG, session) as (running, statistics):
        first = running.submit(plain(0))
        await session.run_began()
        sinks = [Sink(), Sink(refuses=True), Sink()]
        answers = [running.submit(deferred(Source(index), sink=sink)) for index, sink in enumerate(sinks)]
        session.open()
        await answers[0]
        with pytest.raises(CallerFaultError, match="does not fit"):
            await answers[1]
        await answers[2]
        await first
        assert session.batches == [1, 3]
        assert statistics.batches[3].compute_infer.count == 1
    assert [sink.taken for sink in sinks] == [[0], [], [4]]


async def test_batch_mates_that_run_again_alone_are_handed_out_once_each() -> None:
    session = GatedSession()
    async with running_scheduler(CONFIG, session) as (running, _):
        first = running.submit(plain(0))
        await session.run_began()
        sinks = [Sink(), Sink(), Sink()]
        values = (1, POISON, 3)
        answers = [
            running.submit(deferred(Source(value), sink=sink))
            for value, sink in zip(values, sinks, strict=True)
        ]
        session.open()
        await answers[0]
        with pytest.raises(InvalidArgumentError):
            await answers[1]
        await answers[2]
        await first
    assert [sink.taken for sink in sinks] == [[2], [], [6]]


async def test_nothing_is_written_for_a_caller_that_has_gone() -> None:
    session, left, stayed = GatedSession(), Sink(), Sink()
    async with running_scheduler(CONFIG, session) as (running, _):
        first = running.submit(plain(0))
        await session.run_began()
        leaving, staying = (running.submit(deferred(Source(1), sink=sink)) for sink in (left, stayed))
        session.let_go()
        await session.run_began()
        leaving.cancel()
        session.open()
        await staying
        await first
    assert (left.taken, stayed.taken) == ([], [2])


def test_a_large_lone_input_has_memory_of_its_own() -> None:
    """What one request brought must not stay for as long as the model."""
    columns = KEPT_BYTES // 4 + 1
    config = replace(CONFIG, inputs=(TensorConfig("INPUT0", DataType.FP32, (columns,)),))
    buffer = BatchBuffer(BatchLayout(config))
    large = placeholder((1, columns), np.dtype(np.float32))
    request = InferRequest("m", None, {"INPUT0": large}, sources={"INPUT0": Source(1)})
    first, second = buffer.place([request])["INPUT0"], buffer.place([request])["INPUT0"]
    assert not np.shares_memory(first, second)
    small = deferred(Source(1))
    assert np.shares_memory(buffer.place([small])["INPUT0"], buffer.place([small])["INPUT0"])


def test_who_looks_at_values_before_a_batch_is_formed_takes_no_sources() -> None:
    ragged = replace(CONFIG.inputs[0], dims=(-1,), ragged=True)
    assert BatchLayout(replace(CONFIG, inputs=(ragged,))).ragged
    assert not BatchLayout(CONFIG).ragged
