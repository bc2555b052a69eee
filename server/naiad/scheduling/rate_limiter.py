"""Who runs next where instances share resources: a pure choice, and the stock that it is made from."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from naiad.config.rate_config import RateLimit, ResourceTotals

CPU_DEVICE = 0
"""Instances on the CPU share the stock of device 0, as in Triton."""


class Resource(NamedTuple):
    """One stock: a resource of a device, or of all devices together (device None)."""

    name: str
    device: int | None


class Claim(NamedTuple):
    """What one instance holds while it runs; of priority 2 it gets half the turns of priority 1."""

    needs: Mapping[Resource, int]
    priority: int = 1


class Waiting(Protocol):
    """What the choice reads of an instance that waits."""

    @property
    def claim(self) -> Claim:
        """What it needs."""
        ...


Waiter = TypeVar("Waiter", bound=Waiting)
Place = TypeVar("Place", bound="Hashable")


def claim_of(limit: RateLimit | None, gpu: int | None) -> Claim:
    """The claim of an instance on a GPU, or (None) on the CPU."""
    if limit is None:
        return Claim({})
    needs: Counter[Resource] = Counter()
    for resource in limit.resources:
        device = None if resource.is_global else CPU_DEVICE if gpu is None else gpu
        needs[Resource(resource.name, device)] += resource.count
    return Claim(+needs, limit.priority)


def next_grants(waiting: Iterable[Waiter], free: Mapping[Resource, int]) -> list[Waiter]:
    """Which of those that wait, in the order of their turns, can run now. Pure.

    One whose resources are not free holds back those behind it that need any of the same, so that it gets
    them in the end; those that need others go on.
    """
    left = dict(free)
    held_back: set[Resource] = set()
    chosen = []
    for waiter in waiting:
        needs = waiter.claim.needs
        if held_back.isdisjoint(needs) and all(left.get(key, 0) >= count for key, count in needs.items()):
            chosen.append(waiter)
            for key, count in needs.items():
                left[key] -= count
        else:
            held_back.update(needs)
    return chosen


class SlotState(Enum):
    """What an instance is to the limiter."""

    IDLE = "idle"
    WAITING = "waiting"  # has a batch, and waits for resources
    GRANTED = "granted"  # has its resources, and is about to start
    RUNNING = "running"


class Slot:
    """One instance of a loaded version.

    `turn` is its place among those that wait, lowest first: each of its runs moves it on by its priority, so
    that it stands for executions times priority.
    """

    __slots__ = ("claim", "name", "state", "ticket", "turn", "wake")

    def __init__(self, claim: Claim, name: str) -> None:
        self.claim = claim
        self.name = name
        self.state = SlotState.IDLE
        self.turn = 0
        self.ticket = 0
        self.wake: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Slot {self.name} {self.state.value} turn={self.turn}>"


class RateLimiter:
    """The resources of a server, and the instances that hold or want them. Used on the loop's thread."""

    def __init__(self, totals: ResourceTotals | None = None) -> None:
        """Start without instances.

        Args:
            totals: how much there is, by name and device; None as device stands for every one. Of what is not
                named there is as much as the most demanding instance needs.
        """
        self._explicit = dict(totals or {})
        self._totals: dict[Resource, int] = {}
        self._used: Counter[Resource] = Counter()
        self._slots: dict[Slot, None] = {}
        self._waiting: list[Slot] = []
        self._reached = 0  # the turn of the last one that ran: nobody saves up turns while idle
        self._tickets = 0

    def __repr__(self) -> str:
        return f"<RateLimiter slots={len(self._slots)} waiting={len(self._waiting)} free={self.free()}>"

    def free(self) -> dict[Resource, int]:
        """What nobody holds; below 0 while more is held than there is since a version has left."""
        return {key: total - self._used[key] for key, total in self._totals.items()}

    def register(self, claims: Sequence[tuple[str, Claim]]) -> list[Slot]:
        """Take in the instances of a version by name.

        Raises:
            InvalidArgumentError: one needs more than there can be, or of a resource that another one uses as
                that of a device, or the other way round.
        """
        self.check(claims)
        slots = [Slot(claim, name) for name, claim in claims]
        self._slots.update(dict.fromkeys(slots))
        self._count_totals()
        return slots

    def unregister(self, slots: Iterable[Slot]) -> None:
        """Let instances go, and give back what they hold. Safe to call twice."""
        for slot in slots:
            if slot in self._slots:
                self.release(slot)
                del self._slots[slot]
        self._count_totals()
        self.distribute()

    def request(self, slot: Slot) -> bool:
        """Whether the instance can run now, and then it does; else it waits for its `wake` and asks again."""
        if slot.state is SlotState.IDLE:
            slot.state = SlotState.WAITING
            slot.turn = max(slot.turn, self._reached)
            self._tickets += 1
            slot.ticket = self._tickets
            self._waiting.append(slot)
            self.distribute(asking=slot)
        if slot.state is not SlotState.GRANTED:
            return False
        slot.state = SlotState.RUNNING
        self._reached = max(self._reached, slot.turn)
        slot.turn += slot.claim.priority
        return True

    def release(self, slot: Slot) -> None:
        """The instance has run, or wants to no longer. `distribute` hands on what it held."""
        if slot.state is SlotState.WAITING:
            self._waiting.remove(slot)
        elif slot.state is not SlotState.IDLE:
            self._used.subtract(slot.claim.needs)
        slot.state = SlotState.IDLE

    def distribute(self, asking: Slot | None = None) -> None:
        """Grant what is free to those whose turn it is, and wake them, but for the one that asks."""
        if not self._waiting:
            return
        self._waiting.sort(key=lambda slot: (slot.turn, slot.ticket))
        for slot in next_grants(self._waiting, self.free()):
            self._waiting.remove(slot)
            self._used.update(slot.claim.needs)
            slot.state = SlotState.GRANTED
            if slot is not asking and slot.wake is not None:
                slot.wake()

    def _count_totals(self) -> None:
        most: dict[Resource, int] = {}
        for slot in self._slots:
            for key, count in slot.claim.needs.items():
                most[key] = max(most.get(key, 0), count)
        self._totals = {key: self._explicit_total(key, count) for key, count in most.items()}

    def _explicit_total(self, key: Resource, default: int) -> int:
        return self._explicit.get((key.name, key.device), self._explicit.get((key.name, None), default))

    def check(self, claims: Iterable[tuple[str, Claim]]) -> None:
        """Raise what `register` raises."""
        kinds = {key.name: key.device is None for slot in self._slots for key in slot.claim.needs}
        for name, claim in claims:
            for key, count in claim.needs.items():
                if kinds.setdefault(key.name, key.device is None) != (key.device is None):
                    raise InvalidArgumentError(
                        f'Resource "{key.name}" is present as both global and device-specific resource '
                        "in the model configuration."
                    )
                total = self._explicit_total(key, count)
                if count > total:
                    raise InvalidArgumentError(
                        f'Resource count for "{key.name}" is limited to {total} which will prevent '
                        f"scheduling of one or more model instances, the minimum required count is {count} "
                        f"(instance {name}, --rate-limit-resource)"
                    )


class InstanceGate(Generic[Place]):
    """What one scheduler asks before it starts an idle instance. Used on the loop's thread."""

    def __init__(self, limiter: RateLimiter, slots: Mapping[Place, Slot], wake: Callable[[], None]) -> None:
        """Stand before the instances.

        Args:
            limiter: whose resources they need.
            slots: the instances' registrations.
            wake: called, outside of any other call, when an instance that was held back may start.
        """
        self._limiter = limiter
        self._slots = dict(slots)
        self._asked: set[Place] = set()
        self._wake = wake
        for slot in self._slots.values():
            slot.wake = wake

    def least_first(self, places: Iterable[Place]) -> list[Place]:
        """The instances in the order in which to ask: one that must wait holds back its siblings too."""
        return sorted(places, key=lambda place: sum(self._slots[place].claim.needs.values()))

    def may_start(self, place: Place) -> bool:
        """Whether the idle instance, for which there is work, may start; if so, start it."""
        self._asked.add(place)
        return self._limiter.request(self._slots[place])

    def ended(self, place: Place) -> None:
        """The instance's run has ended. `settle` must follow, so that it can compete for its next turn."""
        self._limiter.release(self._slots[place])

    def settle(self) -> None:
        """The scheduler has looked at all its work: what it did not ask for again goes to others."""
        for place, slot in self._slots.items():
            if slot.state in (SlotState.WAITING, SlotState.GRANTED) and place not in self._asked:
                self._limiter.release(slot)
        self._asked.clear()
        self._limiter.distribute()

    def close(self) -> None:
        """Give everything back. Safe to call twice."""
        self._limiter.unregister(self._slots.values())
