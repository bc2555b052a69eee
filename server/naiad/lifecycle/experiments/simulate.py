"""How often the guard is wrong and how soon it is right, on made-up versions: `python -m` this module.

Each run is one experiment: requests come in lots, the guard judges after every lot, and its first roll-back
ends the run. Of candidates that are as good as allowed the share of runs that end so is the false alarms,
which `alpha` is to bound; of bad ones, the candidate's requests until then are the delay.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from naiad.lifecycle.experiments.guard import Names, judge
from naiad.lifecycle.experiments.samples import SCENARIOS, Scenario, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Numbers: TypeAlias = npt.NDArray[np.float64]

NAMES = Names("version 1", "version 2")
LOT = 10
"""Requests of the candidate between two looks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of all runs of a scenario.

    `delays` are the candidate's requests until it was rolled back, of the runs in which it was, `metrics`
    what each of these was for.
    """

    scenario: Scenario
    runs: int
    requests: int
    delays: tuple[int, ...]
    metrics: tuple[str, ...]

    @property
    def share(self) -> float:
        """The part of the runs that ended in a roll-back."""
        return len(self.delays) / self.runs

    def delay(self, quantile: float) -> float:
        """The requests after which this part of all runs had ended; infinite if it never had."""
        rank = math.ceil(quantile * self.runs) - 1
        ordered = sorted(self.delays)
        return ordered[rank] if rank < len(ordered) else math.inf


def simulate(
    scenario: Scenario,
    *,
    runs: int,
    requests: int,
    seed: int = 0,
    lot: int = LOT,
    tick: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run a scenario.

    Args:
        scenario: the two versions and the guard.
        runs: how many experiments.
        requests: of the candidate (or in its shadow) in each, at most.
        seed: of the first run; each has its own.
        lot: requests of the candidate between two looks.
        tick: called after each run.
    """
    delays, metrics = [], []
    for index in range(runs):
        found = first_roll_back(scenario, np.random.default_rng([seed, index]), requests // lot, lot)
        if found is not None:
            delays.append(found[0])
            metrics.append(found[1])
        tick()
    return Outcome(scenario, runs, requests, tuple(delays), tuple(metrics))


def first_roll_back(
    scenario: Scenario, generator: np.random.Generator, looks: int, lot: int
) -> tuple[int, str] | None:
    """One run: the candidate's requests until it is rolled back, and the metric; None if it never is."""
    for look, compared in enumerate(draw(scenario, generator, looks, lot), start=1):
        verdict = judge(scenario.guard, *compared, names=NAMES, task=scenario.task)
        if verdict.kind == "roll_back":
            return look * lot, next(check.metric for check in verdict.checks if check.state == "beyond")
    return None


def textbook_false_alarms(
    *, runs: int, requests: int, alpha: float = 0.05, seed: int = 0, lot: int = LOT
) -> float:
    """The false alarms, as a part of all runs, of a test for a fixed number that is looked at all the time.

    A two-sided z test at `alpha` on two equal versions' values, nine of the baseline's for each of the
    candidate's, after every lot.
    """
    critical = NormalDist().inv_cdf(1 - alpha / 2)
    generator, wrong = np.random.default_rng(seed), 0
    counts: Numbers = lot * np.arange(1.0, requests // lot + 1)
    for _ in range(runs):
        theirs = generator.standard_normal((len(counts), lot)).sum(axis=1).cumsum() / counts
        mine = (math.sqrt(9 * lot) * generator.standard_normal(len(counts))).cumsum() / (9 * counts)
        wrong += bool((np.abs(theirs - mine) > critical * np.sqrt(1 / counts + 1 / (9 * counts))).any())
    return wrong / runs


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every scenario and print the tables."""
    given = _parser().parse_args(arguments)
    console = Console()
    outcomes = []
    with Progress(console=console, transient=True) as progress:
        for scenario in SCENARIOS:
            if given.only and given.only not in scenario.name:
                continue
            task = progress.add_task(scenario.name, total=given.runs)
            outcome = simulate(
                scenario,
                runs=given.runs,
                requests=given.requests,
                seed=given.seed,
                tick=partial(progress.advance, task),
            )
            outcomes.append(outcome)
    console.print(_false_alarms([each for each in outcomes if not each.scenario.is_bad], given.requests))
    console.print(_delays([each for each in outcomes if each.scenario.is_bad], given.requests))
    naive = textbook_false_alarms(runs=given.runs, requests=given.requests, seed=given.seed)
    console.print(
        f"a test at 5 % for a fixed number, looked at after every {LOT} requests: {naive:.0%} wrong"
    )


def _false_alarms(outcomes: Sequence[Outcome], requests: int) -> Table:
    title = f"candidates as good as allowed, up to {requests:,} requests of theirs, a look after every {LOT}"
    table = Table("scenario", "alpha", "runs", "rolled back", "by", title=title)
    for outcome in outcomes:
        by = ", ".join(sorted(set(outcome.metrics))) or "-"
        alpha = f"{outcome.scenario.guard.alpha:.0%}"
        table.add_row(outcome.scenario.name, alpha, str(outcome.runs), f"{outcome.share:.1%}", by)
    return table


def _delays(outcomes: Sequence[Outcome], requests: int) -> Table:
    title = "bad candidates: their requests until they are rolled back"
    table = Table("scenario", "median", "95 %", f"not within {requests:,}", "by", title=title)
    for outcome in outcomes:
        by = max(outcome.metrics, key=outcome.metrics.count, default="-")
        found = (_count(outcome.delay(quantile)) for quantile in (0.5, 0.95))
        table.add_row(outcome.scenario.name, *found, f"{1 - outcome.share:.1%}", by)
    return table


def _count(number: float) -> str:
    return f"{number:,.0f}" if math.isfinite(number) else "more"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m naiad.lifecycle.experiments.simulate", description=__doc__
    )
    parser.add_argument("--runs", type=int, default=300, help="experiments of each scenario (300)")
    parser.add_argument("--requests", type=int, default=5_000, help="the candidate's requests in each (5000)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other figures")
    parser.add_argument("--only", default="", help="scenarios whose name holds this text")
    return parser


if __name__ == "__main__":
    main()
