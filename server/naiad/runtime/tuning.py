"""Which number of instances is best for a model on the CPU: what was measured, and the decision. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

from naiad.runtime.layout import MeasuredLayout, list_layouts, split_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIN_RUN_NS = 300_000
"""Runs that are shorter are not measured: what surrounds them costs as much as they do."""

NEAR = 0.05
"""Rates that are nearer than this count as equal, and the shorter run decides."""

MAX_DELAYED = 0.15
"""The share of a round for which its callers may have waited for a CPU before it says nothing."""

_MIN_QUIET = 2
_CLEAR_QUIET = 3
_CLEAR = 0.1
_HOPELESS = 6


class Round(NamedTuple):
    """All callers of one layout ran for a while: runs a second, and the share of time they had no CPU."""

    rate: float
    delayed: float = 0.0


class Pair(NamedTuple):
    """A round of the rule's layout and, right after it, one of a challenger."""

    rule: Round
    challenger: Round

    @property
    def ratio(self) -> float:
        """The challenger's rate as a share of the rule's."""
        return self.challenger.rate / self.rule.rate

    @property
    def is_quiet(self) -> bool:
        """Whether the callers had their CPUs for themselves in both rounds."""
        return max(self.rule.delayed, self.challenger.delayed) <= MAX_DELAYED


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a number of instances did beside the rule's: its pairs of rounds and one run's median time."""

    instances: int
    run_ns: float
    pairs: tuple[Pair, ...]

    @property
    def quiet(self) -> tuple[Pair, ...]:
        """The pairs that count."""
        return tuple(pair for pair in self.pairs if pair.is_quiet)

    @property
    def is_valid(self) -> bool:
        """Whether enough of the pairs count."""
        return len(self.quiet) >= _MIN_QUIET

    @property
    def delayed(self) -> float:
        """The share of the rounds' time for which callers waited for a CPU that other work had."""
        return min(1.0, mean(each.delayed for pair in self.pairs for each in pair))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A model's measurement.

    `threads` are those that the instances share, `rule` how many instances there are without a measurement,
    `run_ns` the median time of one run alone in that layout. `skipped` are sentences on layouts that were not
    tried.
    """

    threads: int
    rule: int
    run_ns: float
    challenges: tuple[Challenge, ...] = ()
    skipped: tuple[str, ...] = ()


class _Rating(NamedTuple):
    instances: int
    rate: float
    run_ns: float


def is_clear(pairs: Sequence[Pair]) -> bool:
    """Whether further rounds would change nothing.

    Every pair that counts has the same winner by a wide margin, or after many there is none that counts.
    """
    ratios = [pair.ratio for pair in pairs if pair.is_quiet]
    if len(ratios) < _CLEAR_QUIET:
        return not ratios and len(pairs) >= _HOPELESS
    return min(ratios) > 1 + _CLEAR or max(ratios) < 1 - _CLEAR


def is_trusted(outcome: Outcome) -> bool:
    """Whether the callers had the CPUs for themselves, so that a later load may use the decision too."""
    return bool(outcome.challenges) and all(each.is_valid for each in outcome.challenges)


def decide(outcome: Outcome, *, circumstances: str = "") -> MeasuredLayout:
    """The layout with the highest rate; of those near it the one whose single run is the shortest.

    What was measured while other work had the CPUs does not count.

    Args:
        outcome: the measurement.
        circumstances: what the sentence adds about it.
    """
    ratings = _ratings(outcome)
    asides = (*outcome.skipped, *_disturbed(outcome))
    if not ratings:
        return keep_rule(outcome.rule, outcome.threads, "; ".join(asides))
    best = max(rating.rate for rating in ratings)
    near = [rating for rating in ratings if rating.rate >= best * (1 - NEAR)]
    chosen = min(near, key=lambda rating: rating.run_ns)
    told = [_figures(outcome, ratings) + circumstances]
    if len(near) > 1:
        times = (
            f"{split_text(each.instances, outcome.threads)} in {each.run_ns / 1e6:.3g} ms" for each in near
        )
        told.append(f"near enough for the shorter run to decide: {', '.join(times)}")
    return MeasuredLayout(chosen.instances, f"measured: {'; '.join((*told, *asides))} (--measure-layout)")


def keep_rule(instances: int, threads: int, why: str) -> MeasuredLayout:
    """The rule's layout, and why there is no better one."""
    return MeasuredLayout(instances, f"rule: {split_text(instances, threads)}; {why}")


def _disturbed(outcome: Outcome) -> Iterator[str]:
    disturbed = [each for each in outcome.challenges if not each.is_valid]
    if not disturbed:
        return
    low, high = (f"{extreme(each.delayed for each in disturbed):.0%}" for extreme in (min, max))
    layouts = list_layouts([each.instances for each in disturbed], outcome.threads)
    one = len(disturbed) == 1
    yield (
        f"the measurement{'' if one else 's'} of {layouts} {'does' if one else 'do'} not count: other work "
        f"held {'its' if one else 'their'} callers up for {low if low == high else f'{low} to {high}'} "
        "of the time"
    )


def _ratings(outcome: Outcome) -> list[_Rating]:
    """Every layout's rate: the rule's median, and that times the median ratio of each challenger.

    Machines drift within a second, so only rounds that were neighbours are compared.
    """
    valid = [challenge for challenge in outcome.challenges if challenge.is_valid]
    if not valid:
        return []
    base = median(pair.rule.rate for challenge in valid for pair in challenge.quiet)
    challengers = (
        _Rating(each.instances, base * median(pair.ratio for pair in each.quiet), each.run_ns)
        for each in valid
    )
    return [_Rating(outcome.rule, base, outcome.run_ns), *challengers]


def _figures(outcome: Outcome, ratings: Sequence[_Rating]) -> str:
    """Such as `2 x 1 gives 1,624/s, 1 x 2 gives 789/s`, the fastest first."""
    ordered = sorted(ratings, key=lambda rating: -rating.rate)
    return ", ".join(
        f"{split_text(each.instances, outcome.threads)} gives {each.rate:,.0f}/s" for each in ordered
    )
