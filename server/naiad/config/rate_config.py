"""What instances need to run: `instance_group.rate_limiter` and `--rate-limit-resource`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from naiad.config.messages import Message

    ResourceTotals = Mapping[tuple[str, int | None], int]

FORMAT = (
    "--rate-limit-resource option format is '<resource_name>:<count>:<device>' or '<resource_name>:<count>'"
)


@dataclass(frozen=True, slots=True)
class RateResource:
    """`count` units of a resource that an instance holds while it runs.

    There is one stock of a resource for each device, and one for all devices of one that `is_global`.
    """

    name: str
    count: int
    is_global: bool = False


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The `rate_limiter` block of an instance group; an instance of priority 2 gets half the turns of 1."""

    resources: tuple[RateResource, ...] = ()
    priority: int = 1


def read_rate_limit(group: Message) -> RateLimit | None:
    """The block of an `instance_group` message, or None if it has none. Priority 0 counts as 1."""
    if not group.HasField("rate_limiter"):
        return None
    block = group.rate_limiter
    return RateLimit(
        resources=tuple(
            RateResource(resource.name, resource.count, getattr(resource, "global"))
            for resource in block.resources
        ),
        priority=block.priority or 1,
    )


def parse_rate_limit_resources(entries: Iterable[str]) -> ResourceTotals:
    """The counts by (name, device) of `NAME:COUNT[:DEVICE]`; device None stands for every device.

    Raises:
        ValueError: an entry has another form, or names the same resource and device as one before it.
    """
    totals: dict[tuple[str, int | None], int] = {}
    for entry in entries:
        name, *numbers = entry.split(":")
        if not name or len(numbers) not in (1, 2):
            raise ValueError(f"{FORMAT}. Got {entry}")
        for number in numbers:
            if not (number.isascii() and number.isdecimal()):
                raise ValueError(f"{FORMAT}. Got {entry}: '{number}' should be a whole number from 0")
        key = (name, int(numbers[1]) if len(numbers) == 2 else None)
        if key in totals:
            raise ValueError(f"'{entry}' names the same resource and device as an entry before it")
        totals[key] = int(numbers[0])
    return totals
