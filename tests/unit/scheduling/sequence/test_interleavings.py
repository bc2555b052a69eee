"""Whatever order clients come in, with either strategy: every answer once, in order, and every sum right."""

from __future__ import annotations

import asyncio
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schedulers import running_scheduler
from support.sequences import SUM, SequenceSession, item, sequence_config, value_of

from naiad.config.sequence_config import DirectStrategy, OldestStrategy

# Each client's sequence: its values, and how many it sends before it waits for an answer.
clients = st.lists(
    st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 3)), max_size=9
)


@pytest.mark.parametrize(
    "strategy",
    [
        DirectStrategy(),
        DirectStrategy(max_queue_delay_us=300, minimum_slot_utilization=1.0),
        OldestStrategy(max_candidate_sequences=3),
        OldestStrategy(preferred_batch_sizes=(2,), max_queue_delay_us=300, preserve_ordering=True),
    ],
    ids=["direct", "direct-delay", "oldest", "oldest-delay"],
)
@settings(max_examples=15, deadline=None)
@given(clients)
def test_every_sum_is_right(
    strategy: DirectStrategy | OldestStrategy, sequences: list[tuple[list[int], int]]
) -> None:
    asyncio.run(play(strategy, sequences))


async def play(strategy: DirectStrategy | OldestStrategy, sequences: list[tuple[list[int], int]]) -> None:
    sessions = [SequenceSession(gated=False), SequenceSession(gated=False)]
    config = sequence_config(strategy, max_batch_size=2, states=(SUM,))
    async with running_scheduler(config, *sessions) as (running, statistics):

        async def client(number: int, values: list[int], ahead: int) -> list[int]:
            answers, order = [], []
            for index, value in enumerate(values):
                flags = ("S" if index == 0 else "") + ("E" if index == len(values) - 1 else "")
                answer = running.submit(item(number + 1, value, flags))
                answer.add_done_callback(lambda done: order.append(value_of(done.result())))
                answers.append(answer)
                if len(answers) >= ahead:
                    await answers[-ahead]
            await asyncio.gather(*answers)
            return order

        plays = (client(number, *sequence) for number, sequence in enumerate(sequences))
        for (values, _), order in zip(sequences, await asyncio.gather(*plays), strict=True):
            assert order == list(accumulate(values))
        assert statistics.success.count == sum(len(values) for values, _ in sequences)
        assert statistics.fail.count == 0
        assert running.queued == 0
        await running.drain()
