"""How many requests are in a step at once: first come, first served, and nobody's place is lost."""

from __future__ import annotations

import asyncio

import pytest
from support.ensembles import settle

from naiad.scheduling.ensemble.gate import StepGate


async def test_without_a_limit_everyone_enters_at_once() -> None:
    gate = StepGate(0, asyncio.get_running_loop())
    entered: list[int] = []
    for who in range(100):
        gate.enter(who, lambda who=who: entered.append(who))  # type: ignore[misc]  # a default binds it
    assert entered == list(range(100))
    assert gate.waiting == 0


async def test_those_who_wait_enter_in_order_and_who_gives_up_is_passed_over() -> None:
    gate = StepGate(1, asyncio.get_running_loop())
    entered: list[int] = []
    for who in range(4):
        gate.enter(who, lambda who=who: entered.append(who))  # type: ignore[misc]  # a default binds it
    assert (entered, gate.waiting) == ([0], 3)
    gate.give_up(2)
    for _ in range(3):
        gate.leave()
        await settle()
    assert (entered, gate.waiting) == ([0, 1, 3], 0)
    gate.enter(4, lambda: entered.append(4))
    assert entered[-1] == 4  # the place is free again


@pytest.mark.parametrize("count", [5_000])
async def test_a_long_row_that_leaves_at_once_does_not_nest(count: int) -> None:
    gate = StepGate(1, asyncio.get_running_loop())
    left: list[int] = []

    def go() -> None:
        left.append(1)
        gate.leave()

    gate.enter("first", lambda: None)
    for who in range(count):
        gate.enter(who, go)
    gate.leave()
    for _ in range(count):
        await asyncio.sleep(0)
    await settle()
    assert len(left) == count
