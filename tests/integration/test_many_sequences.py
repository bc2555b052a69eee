"""Two hundred sequences at once over real connections with Triton's own client: each ends at its own sum.

Many more than there are slots, over single calls and streams, with numbers and texts for ids, some abandoned
without an END, some cancelled on the way. No control tensor is in the graph, so that an id may be of either kind.
"""

from __future__ import annotations

import asyncio
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from support.clock import SkippingClock
from support.repositories import add_model
from support.sequences import IO, STATE
from support.sequences import accumulate as accumulator
from support.servers import address, server
from tritonclient.utils import InferenceServerException

import naiad.app.models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from naiad.app import NaiadServer

IDLE_US = 60_000_000
"""Longer than the test: only the clock that it sets ends an idle sequence."""
SLOTS = 16
HEAD = f"max_batch_size: 8 {IO} instance_group [ {{ kind: KIND_CPU count: 2 }} ]"
STRATEGIES = {
    "direct": "",
    "oldest": "oldest { max_candidate_sequences: 8 max_queue_delay_microseconds: 300 }",
}


class Play(NamedTuple):
    """One sequence: its id and its values."""

    id: int | str
    values: list[int]

    @property
    def sums(self) -> list[int]:
        return list(accumulate(self.values))


def plays(numbers: Iterable[int]) -> list[Play]:
    """Sequences of three to six values of their own; every third has a text for an id."""
    return [
        Play(
            f"camera/{number}" if number % 3 == 0 else number,
            [1_000 * number + step for step in range(3 + number % 4)],
        )
        for number in numbers
    ]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SkippingClock:
    """The clock of the server's schedulers."""
    made = SkippingClock()
    monkeypatch.setattr(naiad.app.models, "MonotonicClock", lambda: made)
    return made


@pytest.fixture
async def running(tmp_path: Path, clock: SkippingClock) -> AsyncIterator[NaiadServer]:
    for name, strategy in STRATEGIES.items():
        batching = f"{strategy} max_sequence_idle_microseconds: {IDLE_US} {STATE % ''}"
        add_model(tmp_path, name, accumulator(), f"{HEAD} sequence_batching {{ {batching} }}")
    async with server(tmp_path, stream_max_in_flight=1_000) as started:
        yield started


class Caller:
    """A stock client of one model."""

    def __init__(self, client: triton.InferenceServerClient, model: str) -> None:
        self._client = client
        self._model = model

    def request(self, play: Play, step: int) -> dict[str, Any]:
        """What `infer` and `stream_infer` are given for one value of a sequence."""
        tensor = triton.InferInput("INPUT", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.array([[play.values[step]]], np.int32))
        return {
            "model_name": self._model,
            "inputs": [tensor],
            "request_id": f"{play.id}#{step}",
            "sequence_id": play.id,
            "sequence_start": step == 0,
            "sequence_end": step == len(play.values) - 1,
        }

    async def infer(self, play: Play, step: int) -> int:
        result = await self._client.infer(**self.request(play, step))
        return int(result.as_numpy("OUTPUT")[0, 0])

    async def single_calls(self, play: Play) -> list[int]:
        """One call a value, each sent when the one before it was answered."""
        return [await self.infer(play, step) for step in range(len(play.values))]

    async def stream(self, many: list[Play], until: int | None = None) -> dict[int | str, list[int]]:
        """All sequences on one stream, a value of each in turn; after `until` answers the stream is cancelled."""

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for step in range(max(len(play.values) for play in many)):
                for play in many:
                    if step < len(play.values):
                        yield self.request(play, step)

        got: dict[int | str, list[int]] = {play.id: [] for play in many}
        ids = {str(play.id): play.id for play in many}
        answers = self._client.stream_infer(requests())
        count = 0
        async for result, error in answers:
            assert error is None
            sequence, _, step = result.get_response().id.rpartition("#")
            assert len(got[ids[sequence]]) == int(step)
            got[ids[sequence]].append(int(result.as_numpy("OUTPUT")[0, 0]))
            count += 1
            if count == until:
                answers.cancel()
                break
        return got

    async def cancelled(self, play: Play) -> list[int]:
        """Start, leave while the second value is on its way or waits, and begin anew with the same id."""
        await self.infer(play, 0)
        leaving = asyncio.ensure_future(self.infer(play, 1))
        for _ in range(play.values[0] % 7):  # sometimes before it is sent, sometimes after
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        await self._client.is_server_live()  # what is sent after it has come comes after what was cancelled
        return await self.single_calls(play)

    async def abandon(self, play: Play) -> None:
        """Begin, and send no END."""
        assert [await self.infer(play, 0), await self.infer(play, 1)] == play.sums[:2]

    async def stay(self, number: int, everybody: asyncio.Barrier) -> None:
        """Take a slot and keep it until everybody has one: each value is 1."""
        assert await self.infer(Play(number, [1, 1]), 0) == 1
        others = asyncio.ensure_future(everybody.wait())
        values = [1, 1, 1]  # one more than was asked, so that the one asked for is no END
        while not others.done():
            assert await self.infer(Play(number, values), len(values) - 2) == len(values) - 1
            values.append(1)
        await self.infer(Play(number, values[:-1]), len(values) - 2)

    async def infer_after_the_end(self, play: Play) -> str:
        """What a value of a sequence is answered that is no more."""
        with pytest.raises(InferenceServerException) as caught:
            await self.infer(play, 1)
        return str(caught.value.message())


@pytest.mark.parametrize("model", STRATEGIES)
async def test_two_hundred_sequences_end_at_their_own_sums(
    running: NaiadServer, clock: SkippingClock, model: str
) -> None:
    single, first, second, cancelled, broken, abandoned = (
        plays(range(1, 111)),
        plays(range(111, 141)),
        plays(range(141, 171)),
        plays(range(171, 181)),
        plays(range(181, 189)),
        plays(range(189, 201)),
    )
    async with triton.InferenceServerClient(address(running)) as client:
        caller = Caller(client, model)

        async def broken_stream() -> None:
            await caller.stream(broken, until=3)
            await client.is_server_live()
            assert await asyncio.gather(*map(caller.single_calls, broken)) == [each.sums for each in broken]

        answers = await asyncio.gather(
            asyncio.gather(*map(caller.single_calls, single)),
            caller.stream(first),
            caller.stream(second),
            asyncio.gather(*map(caller.cancelled, cancelled)),
            broken_stream(),
            asyncio.gather(*map(caller.abandon, abandoned)),
        )
        assert answers[0] == [each.sums for each in single]
        assert answers[1] == {each.id: each.sums for each in first}
        assert answers[2] == {each.id: each.sums for each in second}
        assert answers[3] == [each.sums for each in cancelled]
        # As many new ones as there are slots at once: those that were abandoned must have gone, and only their
        # idle time can have made them.
        clock.skip_us(IDLE_US)
        everybody = asyncio.Barrier(SLOTS)
        await asyncio.gather(*(caller.stay(number, everybody) for number in range(1_001, 1_001 + SLOTS)))
        for each in abandoned:
            assert "must specify the START flag" in await caller.infer_after_the_end(each)
        counted = (await client.get_inference_statistics(model)).model_stats[0]
        assert counted.inference_count == counted.inference_stats.success.count
        assert max(row.batch_size for row in counted.batch_stats) <= 8
