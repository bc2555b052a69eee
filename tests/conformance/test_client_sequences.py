"""Triton's client examples of sequences: by single calls, by a stream, by a stream of asyncio.

The models: `simple_sequence` adds one at the start; the two `dyna` models also the id at the end, a number or text.
"""

from __future__ import annotations

import asyncio
import uuid
from queue import Queue
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.stock_clients import StockClient, connect
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from support.stock_clients import Endpoints

VALUES = (11, 7, 5, 3, 2, 0, 1)
NEGATED = tuple(-value for value in VALUES)
SIMPLE = "simple_sequence"
DYNA = "simple_dyna_sequence"
STRING_DYNA = "simple_string_dyna_sequence"

Id = int | str
Answers = dict[Id, list[int]]


def expected(values: Sequence[int], at_end: int = 0) -> list[int]:
    return [values[0] + 1, *values[1:-1], values[-1] + at_end]


def requests(client: StockClient, model: str, sequences: dict[Id, Sequence[int]]) -> Iterator[dict[str, Any]]:
    """The sequences' requests in turns, as keyword arguments of the clients; ids tell the sequence and the step."""
    length = len(next(iter(sequences.values())))
    for step in range(length):
        for sequence_id, values in sequences.items():
            yield {
                "model_name": model,
                "inputs": [client.input("INPUT", np.array([[values[step]]], np.int32))],
                "request_id": f"{sequence_id}_{step}",
                "sequence_id": sequence_id,
                "sequence_start": step == 0,
                "sequence_end": step == length - 1,
            }


def of(result: Any) -> int:
    return int(result.as_numpy("OUTPUT")[0][0])


def collected(results: Sequence[Any], sequences: dict[Id, Sequence[int]]) -> Answers:
    """The values of a gRPC stream by sequence, after a check that they came in the order of the requests."""
    found: Answers = {sequence_id: [] for sequence_id in sequences}
    for number, result in enumerate(results):
        sequence_id = list(sequences)[number % len(sequences)]
        assert result.get_response().id == f"{sequence_id}_{number // len(sequences)}"
        found[sequence_id].append(of(result))
    return found


async def by_calls(client: StockClient, model: str, sequences: dict[Id, Sequence[int]]) -> Answers:
    found: Answers = {sequence_id: [] for sequence_id in sequences}
    for request in requests(client, model, sequences):
        found[request["sequence_id"]].append(of(await client.call("infer", **request)))
    return found


async def by_stream(server: Endpoints, model: str, sequences: dict[Id, Sequence[int]]) -> Answers:
    answers: Queue[tuple[Any, Any]] = Queue()
    async with connect("grpc", server) as client:
        client.client.start_stream(lambda result, error: answers.put((result, error)))
        for request in requests(client, model, sequences):
            client.client.async_stream_infer(**request)
        client.client.stop_stream()
    found = [answers.get_nowait() for _ in range(answers.qsize())]
    assert [error for _, error in found if error] == []
    return collected([result for result, _ in found], sequences)


async def by_asyncio_stream(server: Endpoints, model: str, sequences: dict[Id, Sequence[int]]) -> Answers:
    async with connect("grpc.aio", server) as client:

        async def asked() -> AsyncIterator[dict[str, Any]]:
            for request in requests(client, model, sequences):
                yield request

        found = [answer async for answer in client.client.stream_infer(asked())]
    assert [error for _, error in found if error] == []
    return collected([result for result, _ in found], sequences)


STREAMS = pytest.mark.parametrize("stream", [by_stream, by_asyncio_stream])
OFFSETS = pytest.mark.parametrize("offset", [0, 3])


@OFFSETS
async def test_two_sequences_by_calls(stock: StockClient, offset: int) -> None:
    """The ids are those of two clients that run side by side, each with its offset."""
    first, second = 1000 + 2 * offset, 1001 + 2 * offset
    found = await by_calls(stock, SIMPLE, {first: VALUES, second: NEGATED})
    assert found == {first: expected(VALUES), second: expected(NEGATED)}


async def test_ids_may_be_text_and_as_large_as_they_get(stock: StockClient) -> None:
    text = str(uuid.uuid4())
    ids: tuple[Id, ...] = (text, 2**63 - 1, "7", 7)
    found = await by_calls(stock, SIMPLE, dict.fromkeys(ids, VALUES))
    assert found == dict.fromkeys(ids, expected(VALUES))


@pytest.mark.parametrize("kind", ["http", "http.aio"])
async def test_http_takes_ids_of_64_bits_without_sign(kind: str, example_server: Endpoints) -> None:
    async with connect(kind, example_server) as client:
        found = await by_calls(client, SIMPLE, {2**64 - 1: VALUES})
    assert found == {2**64 - 1: expected(VALUES)}


async def test_the_id_of_a_dyna_sequence_is_added_at_its_end(stock: StockClient) -> None:
    found = await by_calls(stock, DYNA, {1002: VALUES, 2_000_000_000: NEGATED})
    assert found == {
        1002: expected(VALUES, at_end=1002),
        2_000_000_000: expected(NEGATED, at_end=2_000_000_000),
    }
    found = await by_calls(stock, STRING_DYNA, {"1002": VALUES})
    assert found == {"1002": expected(VALUES, at_end=1002)}


@STREAMS
@OFFSETS
async def test_three_sequences_by_one_stream(example_server: Endpoints, stream: Any, offset: int) -> None:
    first, second, text = 1000 + 2 * offset, 1001 + 2 * offset, str(uuid.uuid4())
    found = await stream(example_server, SIMPLE, {first: VALUES, second: NEGATED, text: NEGATED})
    assert found == {first: expected(VALUES), second: expected(NEGATED), text: expected(NEGATED)}


@STREAMS
@OFFSETS
async def test_dyna_sequences_by_one_stream(example_server: Endpoints, stream: Any, offset: int) -> None:
    first, second, text = 1000 + 2 * offset, 1001 + 2 * offset, str(1002 + 2 * offset)
    found = await stream(example_server, DYNA, {first: VALUES, second: NEGATED})
    assert found == {first: expected(VALUES, first), second: expected(NEGATED, second)}
    found = await stream(example_server, STRING_DYNA, {text: VALUES})
    assert found == {text: expected(VALUES, int(text))}


async def test_more_sequences_than_slots_are_all_answered(example_server: Endpoints) -> None:
    """Two instances of eight slots; of 24 sequences on three streams the last ones wait until others have ended."""
    groups: list[dict[Id, Sequence[int]]] = [
        {first + number: VALUES[:2] for number in range(8)} for first in (5000, 6000, 7000)
    ]
    found = await asyncio.gather(*(by_asyncio_stream(example_server, SIMPLE, group) for group in groups))
    assert found == [dict.fromkeys(group, expected(VALUES[:2])) for group in groups]


async def test_a_sequence_without_its_start_or_its_id_is_refused(stock: StockClient) -> None:
    inputs = [stock.input("INPUT", np.array([[1]], np.int32))]
    with pytest.raises(InferenceServerException) as raised:
        await stock.call("infer", SIMPLE, inputs, sequence_id=99, request_id="r")
    assert raised.value.message() == (
        "inference request for sequence 99 to model 'simple_sequence' must specify the START "
        "flag on the first request of the sequence"
    )
    with pytest.raises(InferenceServerException, match="must specify a non-zero or non-empty correlation ID"):
        await stock.call("infer", SIMPLE, inputs)


async def test_an_id_of_the_other_kind_is_refused(stock: StockClient) -> None:
    inputs = [stock.input("INPUT", np.array([[1]], np.int32))]
    with pytest.raises(InferenceServerException) as raised:
        await stock.call("infer", DYNA, inputs, sequence_id="text", sequence_start=True, sequence_end=True)
    assert "sequence batching control 'CORRID' data-type is 'BYTES', but model" in raised.value.message()
