"""Scripts that hypothesis makes up for schedulers: what callers, the engine and the clock do, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MS = 1_000
"""Microseconds."""
TIMES_US = [1 * MS, 2 * MS, 3 * MS, 5 * MS]

Send = TypeVar("Send")


@dataclass(frozen=True)
class Cancel:
    """A caller leaves that was not told yet."""

    which: int


@dataclass(frozen=True)
class Finish:
    """One of the runs ends."""

    which: int


@dataclass(frozen=True)
class Pass:
    """So many microseconds pass."""

    us: int


def times_us(*, or_none: bool = False) -> SearchStrategy[int]:
    """Times that are often the same; 0 half the time if there may be none."""
    return st.just(0) | st.sampled_from(TIMES_US) if or_none else st.sampled_from(TIMES_US)


def scripts_of(sends: SearchStrategy[Send]) -> SearchStrategy[list[Send | Cancel | Finish | Pass]]:
    """Some thirty moves, most of which are `sends`."""
    cancels, finishes = st.builds(Cancel, st.integers(0, 99)), st.builds(Finish, st.integers(0, 99))
    passes = st.builds(Pass, st.sampled_from([300, 700, *TIMES_US]))
    # `one_of` would forget what it is given twice.
    kinds: list[SearchStrategy[Send | Cancel | Finish | Pass]] = [
        *[sends] * 5,
        cancels,
        cancels,
        finishes,
        finishes,
        passes,
    ]
    moves = st.sampled_from(kinds).flatmap(lambda each: each)
    # One list would be five moves long on average; six are thirty, and shrink to nothing all the same.
    parts = st.tuples(*[st.lists(moves, max_size=20)] * 6)
    return parts.map(lambda lists: list(chain.from_iterable(lists)))
