"""A check in one plain sentence with its figures, and numbers as people read them. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

State: TypeAlias = Literal["inside", "undecided", "beyond"]
Unit: TypeAlias = Literal["points", "part", "ratio", "number", "seconds"]
"""points: a difference of parts. part: 0 to 1, told in percent. ratio: times something else."""


class Names(NamedTuple):
    """What the versions are called in sentences."""

    baseline: str
    candidate: str


class Wording(NamedTuple):
    """How a figure is said.

    `label` names it; `phrase` is the sentence, with places for `{candidate}`, `{baseline}` (both versions'
    figures), `{range}` (the interval), `{name}` and `{other}` (the baseline's and the candidate's name).
    `unit` is the interval's and the limit's, `value_unit` the versions'. `either_way` says that the limit
    holds in both directions.
    """

    label: str
    phrase: str
    unit: Unit
    value_unit: Unit
    either_way: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """What a sentence is made of: NaN and infinity where nothing is known; `count` of `least` is in."""

    baseline: float
    candidate: float
    low: float
    high: float
    count: int
    least: int


_TAILS: dict[State, str] = {
    "beyond": "beyond the limit of {limit}",
    "inside": "inside the limit of {limit}",
    "undecided": "undecided at a limit of {limit}",
}


def say(wording: Wording, figures: Figures, limit: float, state: State, names: Names) -> str:
    """The sentence, without a full stop."""
    if math.isnan(figures.candidate):
        return f"{wording.label}: nothing seen of {names.candidate} yet"
    candidate = with_unit(figures.candidate, wording.value_unit)
    baseline = with_unit(figures.baseline, wording.value_unit)
    if not (math.isfinite(figures.low) and math.isfinite(figures.high)) or figures.count < figures.least:
        against = "" if math.isnan(figures.baseline) else f" against {names.baseline}'s {baseline}"
        return f"{wording.label} {candidate}{against}, too early to say{_progress(figures)}"
    said = wording.phrase.format(
        candidate=candidate,
        baseline=baseline,
        range=range_text(figures.low, figures.high, wording.unit),
        name=names.baseline,
        other=names.candidate,
    )
    told = with_unit(limit, wording.unit) + (" either way" if wording.either_way else "")
    return f"{said}, {_TAILS[state].format(limit=told)}"


def with_unit(value: float, unit: Unit) -> str:
    """The number and its unit, as `5.2 %`; a dash where there is none."""
    if not math.isfinite(value):
        return "-"
    if unit == "points":
        number_ = _number(100 * value)
        return f"{number_} {'point' if number_ == '1' else 'points'}"
    return _FORMATS[unit](value)


def range_text(low: float, high: float, unit: Unit) -> str:
    """Both ends with one unit between them, as `3.9 to 6.8 %`."""
    first, last = with_unit(low, unit), with_unit(high, unit)
    bare, _, its_unit = first.partition(" ")
    return (
        f"{bare if last.endswith(' ' + its_unit) else first} to {last}" if its_unit else f"{first} to {last}"
    )


def count_text(count: float) -> str:
    """A count with its thousands apart."""
    return f"{count:,.0f}"


def _progress(figures: Figures) -> str:
    if figures.count >= figures.least:
        return f" after {count_text(figures.count)} observations"
    return f" after {count_text(figures.count)} of {count_text(figures.least)} observations"


def _number(value: float) -> str:
    """Two or three digits that count."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    # A zero has no sign, and e-05 is as short as small numbers get.
    return f"{value:.1f}".removesuffix(".0") if size >= 2 else f"{value or 0.0:.{3 if size >= 0.095 else 2}g}"


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{_number(value)} s"
    return f"{_number(1e3 * value)} ms" if value >= 1e-3 else f"{_number(1e6 * value)} us"


_FORMATS: dict[Unit, Callable[[float], str]] = {
    "part": lambda value: f"{_number(100 * value)} %",
    "ratio": lambda value: f"{_number(value)} times",
    "number": _number,
    "seconds": _seconds,
}
