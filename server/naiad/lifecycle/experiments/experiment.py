"""One experiment in force: who answers now, what was learnt, what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from naiad.lifecycle.experiments.assignment import Routes
from naiad.lifecycle.experiments.choice import Choice
from naiad.lifecycle.experiments.decisions import GUARD, Decision
from naiad.lifecycle.experiments.evidence import ArmEvidence, ShadowEvidence
from naiad.lifecycle.experiments.guard import Names, judge
from naiad.lifecycle.experiments.watching import Mirror, VersionWatch
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from naiad.config.experiment_config import ExperimentConfig
    from naiad.lifecycle.caller import Caller
    from naiad.lifecycle.experiments.aside import AsideProcess
    from naiad.lifecycle.experiments.decisions import Decisions
    from naiad.lifecycle.experiments.decisions import Kind as DecisionKind
    from naiad.lifecycle.experiments.guard import Verdict
    from naiad.lifecycle.version import ServingVersion
    from naiad.vision.agreement.figures import AnswerTask

log = structlog.get_logger(__name__)

MAX_HISTORY = 20
"""The last decisions that a report tells."""


class Experiment:
    """An `experiment.json` at work on the versions of one model.

    Routes are made anew when a version comes or goes, a step of the ramp is due or something is decided;
    evidence begins anew with the experiment, and of a version when it is loaded anew. Used on the event
    loop's thread.
    """

    def __init__(
        self, model: str, config: ExperimentConfig, *, aside: AsideProcess, decisions: Decisions, now_s: float
    ) -> None:
        """Begin without versions.

        Args:
            model: the model's name.
            config: what its file says.
            aside: looks into answers and runs the shadow's candidate.
            decisions: what was decided before, and takes what is decided now.
            now_s: seconds since 1970.
        """
        self.on_change: Callable[[], None] | None = None
        """Called when a decision has changed who answers; set by the owner."""
        self.model = model
        self.config = config
        self.began_s = now_s
        self.evidence: dict[int, ArmEvidence] = {}
        self.shadow = None if config.shadow is None else ShadowEvidence()
        self.verdicts: dict[int, Verdict] = {}
        self._aside = aside
        self._decisions = decisions
        self._serving: Mapping[int, ServingVersion] = {}
        self._told: set[tuple[int, str]] = set()
        self._choice = Choice(model, Routes(config, ready=(), now=now_s), ())

    def choose(self, caller: Caller) -> int | None:
        """The version that answers a caller; None if none of the experiment serves."""
        return self._choice.choose(caller)

    def follow(self, before: Experiment) -> None:
        """Take another experiment's place on the model: sequences keep to the version that they began on."""
        self._choice.follow(before._choice)

    @property
    def standing(self) -> int | None:
        """The baseline, or what was promoted over it or stands in for it; None if none serves."""
        return self._choice.routes.standing

    @property
    def _shadowed(self) -> int | None:
        return None if self.config.shadow is None else self.config.shadow.version

    @property
    def _task(self) -> AnswerTask:
        """What the model is for."""
        vision = next((version.vision for version in self._serving.values()), None)
        if isinstance(vision, Detector):
            return "detect"
        return "embed" if isinstance(vision, Embedder) else "tensors"

    @property
    def rolled_back(self) -> Mapping[int, Decision]:
        """The candidates that are withdrawn, and by what decision."""
        return self._decisions.rolled_back(self.model, self.config.digest)

    @property
    def promoted(self) -> Decision | None:
        """The decision by which one version answers all."""
        return self._decisions.promoted(self.model, self.config.digest)

    @property
    def history(self) -> Sequence[Decision]:
        """The last decisions on the model, oldest first, whatever experiment they were made in."""
        return self._decisions.history(self.model)[-MAX_HISTORY:]

    @property
    def ready(self) -> Collection[int]:
        """The versions of the experiment that serve."""
        return self._serving.keys()

    def share_of(self, version: int) -> float:
        """The part of the requests that a version answers now, 0 to 1; listed keys are not counted in."""
        return self._choice.routes.share_of(version)

    def bind(self, serving: Mapping[int, ServingVersion], now_s: float) -> None:
        """Go on with the versions that serve now: evidence of those that are new begins anew."""
        for number in self.config.versions:
            version = serving.get(number)
            if version is None or version is self._serving.get(number):
                continue
            self.evidence[number] = ArmEvidence()
            if self.shadow is not None and number in {self.config.baseline, self._shadowed}:
                self.shadow = ShadowEvidence()
        self._serving = {number: serving[number] for number in self.config.versions if number in serving}
        self.refresh(now_s)

    def leave(self) -> None:
        """Watch no version any more."""
        for version in self._serving.values():
            version.watch = None
        self._serving = {}

    def refresh(self, now_s: float) -> None:
        """Make the routes anew, and watch the versions that they lead to."""
        promoted, rolled_back = self.promoted, self.rolled_back
        routes = Routes(
            self.config,
            ready=self._serving,
            now=now_s,
            excluded=rolled_back,
            promoted=None if promoted is None else promoted.candidate,
        )
        self._choice.routes, self._choice.ready = routes, frozenset(self._serving)
        self._choice.withdrawn = frozenset(rolled_back)
        for number, version in self._serving.items():
            version.watch = self._watch(number)

    def tick(self, now_s: float) -> None:
        """Follow the ramp and judge the candidates; once a second or so."""
        due = self._choice.routes.next_change
        if due is not None and now_s >= due:
            self.refresh(now_s)
            log.info("experiment ramp", model=self.model, weights=dict(self.config.weights_at(now_s)))
        if self.config.guard is not None:
            for candidate in self.config.candidates:
                self._judge(candidate, now_s)

    def decide(self, decision: Decision, now_s: float) -> None:
        """Carry a decision out, by the guard or by hand; who is resumed is judged by what comes then."""
        self._decisions.add(decision)
        if decision.kind == "resume":
            self._forget(self.config.candidates if decision.candidate is None else (decision.candidate,))
        log.warning(
            "experiment decided",
            model=self.model,
            decision=decision.kind,
            candidate=decision.candidate,
            reason=decision.reason,
            by=decision.by,
            dry_run=decision.dry_run,
            who="model owner",
        )
        self.refresh(now_s)
        if self.on_change is not None:
            self.on_change()

    def _forget(self, candidates: Iterable[int]) -> None:
        for number in candidates:
            if number in self.evidence:
                self.evidence[number] = ArmEvidence()
            if number == self._shadowed:
                self.shadow = ShadowEvidence()
            self.verdicts.pop(number, None)

    def decision(
        self,
        kind: DecisionKind,
        candidate: int | None,
        reason: str,
        by: str,
        now_s: float,
        *,
        dry_run: bool = False,
    ) -> Decision:
        """A decision on this experiment; it changes nothing yet."""
        return Decision(
            kind=kind,
            model=self.model,
            experiment=self.config.name,
            digest=self.config.digest,
            candidate=candidate,
            reason=reason,
            by=by,
            at=now_s,
            dry_run=dry_run,
        )

    def _judge(self, candidate: int, now_s: float) -> None:
        guard, baseline = self.config.guard, self.evidence.get(self.config.baseline)
        evidence = self.evidence.get(candidate)
        if guard is None or baseline is None or evidence is None:
            return  # one of them has not been loaded yet
        shadow = self.shadow if candidate == self._shadowed else None
        verdict = judge(
            guard,
            baseline,
            evidence if candidate in self.config.answering else None,
            shadow,
            names=Names(f"version {self.config.baseline}", f"version {candidate}"),
            task=self._task,
            candidates=len(self.config.candidates),
        )
        self.verdicts[candidate] = verdict
        if not (verdict.kind == "roll_back" or verdict.kind == "promote"):  # noqa: PLR1714  # mypy narrows by it
            return
        if not self._is_open(candidate, verdict.kind):
            return
        # A roll-back waits for nothing: of two bad candidates the second one must not go on for minutes.
        is_rash = verdict.kind == "promote"
        if is_rash and not self._decisions.may_decide(self.model, now_s, guard.cooldown_s):
            return
        if guard.dry_run:
            self._told.add((candidate, verdict.kind))
        self.decide(
            self.decision(verdict.kind, candidate, verdict.reason, GUARD, now_s, dry_run=guard.dry_run), now_s
        )

    def _is_open(self, candidate: int, kind: DecisionKind) -> bool:
        """Whether that has not been decided before."""
        if candidate in self.rolled_back or (candidate, kind) in self._told:
            return False
        return kind != "promote" or self.promoted is None

    def _watch(self, number: int) -> VersionWatch:
        mirror = None
        shadow = self.config.shadow
        if shadow is not None and self.shadow is not None and number == self.config.baseline:
            is_over = shadow.version in self.rolled_back
            mirror = None if is_over else Mirror(shadow.version, shadow.share, self.shadow)
        return VersionWatch(self.model, number, self.evidence[number], self._aside, mirror)
