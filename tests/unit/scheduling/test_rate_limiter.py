"""The rate limiter: the choice as a function, its books, and that nobody waits for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naiad.config.rate_config import RateLimit, RateResource
from naiad.core.errors import InvalidArgumentError
from naiad.scheduling.rate_limiter import (
    Claim,
    InstanceGate,
    RateLimiter,
    Resource,
    SlotState,
    claim_of,
    next_grants,
)

if TYPE_CHECKING:
    from naiad.scheduling.rate_limiter import Slot

R, S, GLOBAL = Resource("R", 0), Resource("S", 0), Resource("G", None)


class Waiter(NamedTuple):
    name: str
    claim: Claim


def chosen(free: dict[Resource, int], *waiting: tuple[str, dict[Resource, int]]) -> str:
    grants = next_grants([Waiter(name, Claim(needs)) for name, needs in waiting], free)
    return "".join(waiter.name for waiter in grants)


def slots_of(limiter: RateLimiter, *claims: Claim) -> list[Slot]:
    return limiter.register([(f"i{index}", claim) for index, claim in enumerate(claims)])


@pytest.mark.parametrize(
    ("free", "waiting", "names"),
    [
        ({R: 2}, [("a", {R: 1}), ("b", {R: 1}), ("c", {R: 1})], "ab"),
        ({R: 0}, [("a", {R: 1}), ("b", {})], "b"),
        ({R: 1, S: 1}, [("a", {R: 2}), ("b", {S: 1})], "b"),
        ({R: 1, S: 1}, [("a", {R: 2}), ("b", {R: 1})], ""),
        ({R: 1, S: 1}, [("a", {R: 2}), ("b", {R: 1, S: 1}), ("c", {S: 1})], ""),
        ({R: -1}, [("a", {R: 1})], ""),
        ({}, [("a", {R: 1})], ""),
    ],
    ids=[
        "as many as fit",
        "needs nothing",
        "other resource",
        "not past it",
        "nor by a chain",
        "debt",
        "none",
    ],
)
def test_who_can_run_goes_and_nobody_takes_what_one_before_it_waits_for(
    free: dict[Resource, int], waiting: list[tuple[str, dict[Resource, int]]], names: str
) -> None:
    assert chosen(free, *waiting) == names


def test_a_claim_is_of_the_instances_device_unless_global_and_the_cpu_is_device_0() -> None:
    limit = RateLimit((RateResource("R", 2), RateResource("R", 1), RateResource("G", 3, is_global=True)), 4)
    assert claim_of(limit, 1) == Claim({Resource("R", 1): 3, GLOBAL: 3}, 4)
    assert claim_of(limit, None) == claim_of(limit, 0)
    assert claim_of(RateLimit((RateResource("R", 0),)), 0) == Claim({})
    assert claim_of(None, 0) == Claim({})


def test_there_is_as_much_as_the_most_demanding_instance_needs_while_it_is_there() -> None:
    limiter = RateLimiter()
    small = slots_of(limiter, Claim({R: 2}), Claim({GLOBAL: 1}))
    assert limiter.free() == {R: 2, GLOBAL: 1}
    large = slots_of(limiter, Claim({R: 5}))
    assert limiter.free() == {R: 5, GLOBAL: 1}
    assert limiter.request(large[0])
    limiter.unregister(large)
    assert limiter.free() == {R: 2, GLOBAL: 1}
    limiter.unregister(small)
    assert limiter.free() == {}


def test_an_explicit_total_is_of_its_device_or_of_all() -> None:
    one = Resource("R", 1)
    limiter = RateLimiter({("R", None): 7, ("R", 1): 3, ("G", None): 9})
    slots_of(limiter, Claim({R: 1, one: 1, GLOBAL: 1, S: 4}))
    assert limiter.free() == {R: 7, one: 3, GLOBAL: 9, S: 4}


def test_an_instance_that_could_never_run_is_refused_in_tritons_words() -> None:
    limiter = RateLimiter({("R", None): 3})
    with pytest.raises(InvalidArgumentError) as raised:
        slots_of(limiter, Claim({R: 1}), Claim({R: 4}))
    assert raised.value.message == (
        'Resource count for "R" is limited to 3 which will prevent scheduling of one or more model instances, '
        "the minimum required count is 4 (instance i1, --rate-limit-resource)"
    )
    assert limiter.free() == {}, "nothing of what is refused stays"


def test_a_resource_is_global_or_not() -> None:
    limiter = RateLimiter()
    slots_of(limiter, Claim({R: 1}))
    with pytest.raises(
        InvalidArgumentError, match='Resource "R" is present as both global and device-specific'
    ):
        slots_of(limiter, Claim({Resource("R", None): 1}))


@dataclass
class Scheduler:
    """A gate and what its scheduler would do: start whatever of its work may start, then settle."""

    limiter: RateLimiter
    slots: list[Slot]
    work: int = 0
    woken: bool = False
    running: set[int] = field(default_factory=set)
    started: int = 0

    def __post_init__(self) -> None:
        def wake() -> None:
            self.woken = True

        self.gate: InstanceGate[int] = InstanceGate(self.limiter, dict(enumerate(self.slots)), wake)

    def dispatch(self) -> None:
        self.woken = False
        for place in range(len(self.slots)):
            if self.work and place not in self.running and self.gate.may_start(place):
                self.running.add(place)
                self.work -= 1
                self.started += 1
        self.gate.settle()

    def end(self, place: int) -> None:
        self.running.remove(place)
        self.gate.ended(place)
        self.dispatch()


def forever(limiter: RateLimiter, *claims: Claim) -> list[Scheduler]:
    """A scheduler for each claim, with one instance and more work than it can do."""
    made = [Scheduler(limiter, slots_of(limiter, claim), work=10**9) for claim in claims]
    for each in made:
        each.dispatch()
    return made


def turn_over(everyone: list[Scheduler], ends: Scheduler) -> None:
    """One run ends, and whoever is woken starts."""
    ends.end(0)
    for each in everyone:
        if each.woken:
            each.dispatch()


def test_of_two_that_always_want_to_run_priority_2_gets_half_the_turns_of_priority_1() -> None:
    everyone = forever(RateLimiter(), Claim({R: 1}, 1), Claim({R: 1}, 2))
    for _ in range(300):
        (running,) = (each for each in everyone if each.running)
        turn_over(everyone, running)
    first, second = everyone
    assert abs(first.started - 2 * second.started) <= 2


def test_nobody_saves_up_turns_while_idle() -> None:
    """A model that is loaded late, or was idle, does not keep out those that worked meanwhile."""
    limiter = RateLimiter()
    (busy,) = forever(limiter, Claim({R: 1}))
    for _ in range(1_000):
        turn_over([busy], busy)
    everyone = [busy, *forever(limiter, Claim({R: 1}))]
    for _ in range(20):
        (running,) = (each for each in everyone if each.running)
        turn_over(everyone, running)
    assert abs(everyone[0].started - 1_001 - everyone[1].started) <= 2


needs = st.dictionaries(st.sampled_from([R, S, GLOBAL]), st.integers(1, 3), max_size=3)
claims = st.builds(Claim, needs, st.integers(1, 4))
schedulers = st.lists(st.lists(claims, min_size=1, max_size=3), min_size=1, max_size=4)
explicit = st.dictionaries(st.sampled_from([("R", None), ("S", 0), ("G", None)]), st.integers(3, 6))


@settings(max_examples=150, deadline=None)
@given(schedulers, explicit, st.data())
def test_whatever_comes_nothing_is_overdrawn_and_whoever_can_run_runs_or_is_woken(
    versions: list[list[Claim]], totals: dict[tuple[str, int | None], int], data: st.DataObject
) -> None:
    """No lost wake-up: after each step nobody waits for what is free. At the end all work has been done."""
    limiter = RateLimiter(totals)
    all_of = [Scheduler(limiter, slots_of(limiter, *version)) for version in versions]
    wanted = 0
    for _ in range(data.draw(st.integers(0, 25))):
        each = data.draw(st.sampled_from(all_of))
        action = data.draw(st.sampled_from(["come", "leave", "end", "wake", "close"]))
        if action == "come":
            each.work += 1
            wanted += 1
            each.dispatch()
        elif action == "leave" and each.work:
            each.work -= 1
            wanted -= 1
            each.dispatch()
        elif action == "end" and each.running:
            each.end(data.draw(st.sampled_from(sorted(each.running))))
        elif action == "wake" and each.woken:
            each.dispatch()
        elif action == "close" and len(all_of) > 1:
            each.gate.close()
            wanted -= each.work + each.started
            all_of.remove(each)
        check(limiter, all_of, totals)
    finish(all_of)
    assert sum(each.started for each in all_of) == wanted
    assert not any(each.work for each in all_of)
    for each in all_of:
        each.gate.close()
    assert limiter.free() == {}


def check(limiter: RateLimiter, all_of: list[Scheduler], totals: dict[tuple[str, int | None], int]) -> None:
    live = [slot for each in all_of for slot in each.slots]
    free = limiter.free()
    for key, left in free.items():
        held = [slot for slot in live if slot.state in (SlotState.GRANTED, SlotState.RUNNING)]
        used = sum(slot.claim.needs.get(key, 0) for slot in held)
        most = max(slot.claim.needs.get(key, 0) for slot in live)
        total = totals.get((key.name, key.device), totals.get((key.name, None), most))
        assert left == total - used
    waiting = sorted(
        (slot for slot in live if slot.state is SlotState.WAITING), key=lambda slot: (slot.turn, slot.ticket)
    )
    assert next_grants(waiting, free) == []
    for each in all_of:
        granted = any(slot.state is SlotState.GRANTED for slot in each.slots)
        assert not granted or each.woken, "granted and not told"


def finish(all_of: list[Scheduler]) -> None:
    """End what runs and wake who was told to wake until nothing happens any more."""
    while busy := [each for each in all_of if each.running or each.woken]:
        for each in busy:
            if each.woken:
                each.dispatch()
            elif each.running:
                each.end(min(each.running))


sharers = st.builds(
    lambda shared, others, priority: Claim({**others, R: shared}, priority),
    st.integers(1, 3),
    needs,
    st.integers(1, 4),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(sharers, min_size=2, max_size=6), st.integers(3, 7), st.integers(0, 2**32))
def test_nobody_starves_however_many_want_to_run_for_ever(
    all_claims: list[Claim], total: int, seed: int
) -> None:
    """While one waits, another that needs some of the same starts only as often as their priorities say."""
    random = Random(seed)  # of its own: hypothesis would keep each of its choices
    everyone = forever(RateLimiter({("R", None): total}), *all_claims)
    before: dict[int, list[int]] = {}
    for _ in range(40 * len(everyone)):
        turn_over(everyone, random.choice([each for each in everyone if each.running]))
        started = [each.started for each in everyone]
        for slot in (each.slots[0] for each in everyone):
            if slot.state is not SlotState.WAITING:
                continue
            at_first = before.setdefault(slot.ticket, started)
            for other, then, now in zip(everyone, at_first, started, strict=True):
                assert now - then <= slot.claim.priority // other.slots[0].claim.priority + 2
