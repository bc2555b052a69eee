"""A limit held against the confidence sequence of its figure. `measures` lists all that there are. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from naiad.lifecycle.experiments.phrases import Figures, State, Unit, Wording, say
from naiad.lifecycle.experiments.sequences import Interval, Rate, bernoulli_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.config.experiment_config import GuardConfig
    from naiad.lifecycle.experiments.evidence import ArmEvidence, ShadowEvidence
    from naiad.lifecycle.experiments.phrases import Names
    from naiad.vision.agreement.figures import AnswerTask


@dataclass(frozen=True, slots=True)
class Check:
    """One limit of the guard, and where the evidence lies.

    `estimate`, `low`, `high` (a confidence sequence: it holds at all times at once) and `limit` are in
    `unit`; `baseline` and `candidate`, each version's own figure, in `value_unit`. None where nothing is
    known, for an end of the interval too. `count` are the candidate's observations. `is_better` says that the
    candidate is surely better than the baseline; figures that are neither good nor bad of themselves, as more
    faces, never are.
    """

    metric: str
    label: str
    baseline: float | None
    candidate: float | None
    estimate: float | None
    low: float | None
    high: float | None
    limit: float
    state: State
    unit: Unit
    value_unit: Unit
    count: int
    is_better: bool
    sentence: str


class Compared(NamedTuple):
    """What is judged: both arms, and the shadow. `candidate` is None if it answers nobody."""

    baseline: ArmEvidence
    candidate: ArmEvidence | None
    shadow: ShadowEvidence | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure before it is held against its limit. NaN and infinity where nothing is known."""

    baseline: float
    candidate: float
    estimate: float
    interval: Interval
    count: int


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing to look at.

    Attributes:
        metric: its name.
        limit: the guard's field that limits it; None switches it off.
        tasks: the models that it is of; None for all.
        of_shadow: whether it is read off the shadow, or off both arms.
        find: the figure, and its interval at an alpha.
        region: the estimates that a limit allows.
        no_change: the estimate of equals where less is better, else None.
        wording: how it is said.
        failures: for those that may be decided early, the candidate's own rate of what must not happen.
    """

    metric: str
    limit: str
    tasks: frozenset[AnswerTask] | None
    of_shadow: bool
    find: Callable[[Compared, float], Finding]
    region: Callable[[float], tuple[float, float]]
    wording: Wording
    no_change: float | None = None
    failures: Callable[[Compared], Rate] | None = None

    def applies(self, config: GuardConfig, task: AnswerTask, compared: Compared) -> bool:
        """Whether it is checked: a matter of the experiment's set-up alone, not of what was seen so far."""
        is_there = compared.shadow if self.of_shadow else compared.candidate
        of_task = self.tasks is None or task in self.tasks
        return of_task and is_there is not None and self.limit_in(config) is not None

    def limit_in(self, config: GuardConfig) -> float | None:
        """The guard's limit for it."""
        limit: float | None = getattr(config, self.limit)
        return limit

    def check(self, limit: float, compared: Compared, alpha: float, least: int, names: Names) -> Check:
        """Hold the figure against its limit.

        Args:
            limit: the guard's.
            compared: the evidence.
            alpha: how likely this check may ever be wrong.
            least: the candidate's observations before anything is decided.
            names: of the versions, for the sentence.
        """
        finding = self.find(compared, alpha)
        lowest, highest = self.region(limit)
        state, (low, high) = self._state(finding, least, lowest, highest), finding.interval
        figures = Figures(finding.baseline, finding.candidate, low, high, finding.count, least)
        is_better = self.no_change is not None and finding.count >= least and high < self.no_change
        return Check(
            metric=self.metric,
            label=self.wording.label,
            baseline=_known(finding.baseline),
            candidate=_known(finding.candidate),
            estimate=_known(finding.estimate),
            low=_known(low),
            high=_known(high),
            limit=limit,
            state=state,
            unit=self.wording.unit,
            value_unit=self.wording.value_unit,
            count=finding.count,
            is_better=is_better,
            sentence=say(self.wording, figures, limit, state, names),
        )

    def fails_mostly(self, compared: Compared, alpha: float) -> bool:
        """Whether surely more than half of the candidate's answers are failures."""
        return self.failures is not None and bernoulli_interval(*self.failures(compared), alpha).low > 0.5

    @staticmethod
    def _state(finding: Finding, least: int, lowest: float, highest: float) -> State:
        low, high = finding.interval
        if finding.count < least:
            return "undecided"
        if low > highest or high < lowest:
            return "beyond"
        return "inside" if lowest <= low and high <= highest else "undecided"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
