"""Made-up versions and what they answer, as the evidence after each lot of requests. For `simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from naiad.config.experiment_config import GuardConfig
from naiad.lifecycle.experiments.checks import Compared
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome, ShadowEvidence
from naiad.lifecycle.experiments.sketch import Durations, Moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.vision.agreement.figures import AnswerTask

Numbers: TypeAlias = npt.NDArray[np.float64]

DEFAULTS = GuardConfig.model_validate({})


@dataclass(frozen=True, slots=True)
class Version:
    """How a made-up version answers.

    Latencies are lognormal: `sigma` 1 has one request in a hundred take ten times the typical one. Faces a
    picture are geometric with mean `faces`, so that two pictures of five have none and a few have many; a
    version finds each with probability `finds`.
    """

    error_rate: float = 0.001
    latency_s: float = 0.010
    sigma: float = 0.3
    faces: float = 1.5
    finds: float = 1.0
    score: float = 0.85
    score_spread: float = 0.08
    norm: float = 20.0
    norm_spread: float = 0.1
    broken: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """How two made-up versions agree: each face is missed or extra with a probability of its own.

    `dimensions` are those of the vectors; `cosine` is their mean cosine, where 0 is a space that was rotated.
    """

    missed: float = 0.02
    extra: float = 0.02
    score_shift: float = 0.0
    cosine: float = 0.99
    dimensions: int = 128
    mismatched: float = 0.0
    failures: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """An experiment to simulate.

    `share` is the candidate's part of the answers; `bursts` has bad times that hit both versions alike.
    `is_bad` says that the candidate is to be rolled back.
    """

    name: str
    is_bad: bool = True
    baseline: Version = Version()
    candidate: Version | None = None
    pair: Pair | None = None
    task: AnswerTask = "detect"
    share: float = 0.1
    bursts: bool = False
    guard: GuardConfig = DEFAULTS


AT_THE_LIMIT = GuardConfig.model_validate(
    {
        "max_error_rate_increase": 0.0,
        "max_latency_ratio": 1.0,
        "max_empty_rate_increase": 0.0,
        "max_detections_drop": 0.0,
        "max_score_shift": 0.0,
        "max_norm_ratio": 1.0,
        "max_missed_rate": 0.05,
        "max_extra_rate": 0.05,
        "max_mismatch_rate": 0.05,
        "min_cosine": 0.9,
        "min_requests": 10,
    }
)
"""Nothing is allowed that equal versions do not do: the hardest case for false alarms."""

_EQUAL = Version()
_WORST_PAIR = Pair(missed=0.05, extra=0.05, cosine=0.9, mismatched=0.05)
_WILD = Version(sigma=1.0)

SCENARIOS = (
    Scenario("equal, with a shadow", False, candidate=_EQUAL, pair=Pair()),
    Scenario("equal, latency sigma 1", False, baseline=_WILD, candidate=_WILD),
    Scenario("at every limit, detector", False, _WILD, _WILD, _WORST_PAIR, guard=AT_THE_LIMIT),
    Scenario("at every limit, half the answers", False, _WILD, _WILD, share=0.5, guard=AT_THE_LIMIT),
    Scenario("at every limit, embedder", False, _WILD, _WILD, _WORST_PAIR, "embed", guard=AT_THE_LIMIT),
    Scenario("at every limit, bad times for both", False, _WILD, _WILD, bursts=True, guard=AT_THE_LIMIT),
    Scenario("fails every request", candidate=Version(error_rate=1.0)),
    Scenario("every answer holds NaN", candidate=Version(broken=1.0)),
    Scenario("5 % errors", candidate=Version(error_rate=0.05)),
    Scenario("30 % slower, sigma 0.3", candidate=Version(latency_s=0.013)),
    Scenario("30 % slower, sigma 1", baseline=_WILD, candidate=Version(latency_s=0.013, sigma=1.0)),
    Scenario("finds 10 % less, by answers", candidate=Version(finds=0.9)),
    Scenario("finds 10 % less, in the shadow", pair=Pair(missed=0.1)),
    Scenario("finds 20 % less, by answers", candidate=Version(finds=0.8)),
    Scenario("finds 20 % less, in the shadow", pair=Pair(missed=0.2)),
    Scenario(
        "another space, in the shadow",
        pair=Pair(cosine=0.0),
        task="embed",
        guard=GuardConfig.model_validate({"min_cosine": 0.9}),
    ),
)


def draw(scenario: Scenario, generator: np.random.Generator, looks: int, lot: int) -> Iterator[Compared]:
    """The evidence after each of `looks` lots, each of `lot` requests of the candidate."""
    bad_times = _bad_times(generator, looks) if scenario.bursts else np.zeros(looks, dtype=bool)
    more = round(lot * (1 - scenario.share) / scenario.share)
    arms = []
    for version, count in ((scenario.baseline, more), (scenario.candidate, lot)):
        arms.append(None if version is None else _answers(version, generator, bad_times, count))
    pairs = None if scenario.pair is None else _pairs(scenario, scenario.pair, generator, looks, lot)
    for look in range(looks):
        baseline, candidate = (None if each is None else _arm_at(each, look) for each in arms)
        assert baseline is not None
        yield Compared(baseline, candidate, None if pairs is None else _shadow_at(pairs, look))


Sums: TypeAlias = dict[str, Numbers]
"""By name the running sums after each lot; of moments three rows: count, sum, squares."""


def _bad_times(generator: np.random.Generator, looks: int) -> npt.NDArray[np.bool_]:
    """One lot in fifty begins a time that lasts twenty lots."""
    begins = generator.random(looks) < 1 / 50
    return np.convolve(begins, np.ones(20))[:looks] > 0


def _answers(
    version: Version, generator: np.random.Generator, bad_times: npt.NDArray[np.bool_], lot: int
) -> Sums:
    shape = (len(bad_times), lot)
    bad = np.broadcast_to(bad_times[:, None], shape)
    failed = generator.random(shape) < np.where(bad, 0.2 + 0.8 * version.error_rate, version.error_rate)
    logs = np.log(version.latency_s * np.where(bad, 3, 1)) + version.sigma * generator.standard_normal(shape)
    there = generator.geometric(1 / (1 + version.faces), shape) - 1
    faces = generator.binomial(there, version.finds)
    scores = version.score + version.score_spread * generator.standard_normal(shape)
    norms = np.log(version.norm) + version.norm_spread * generator.standard_normal(shape)
    return {
        "answered": np.full(len(bad_times), lot).cumsum(),
        "failed": _running(failed),
        "latency": _moments(logs, ~failed),
        "empty": _running(faces == 0),
        "faces": _moments(faces, faces >= 0),
        "score": _moments(scores, faces > 0),
        "norm": _moments(norms, faces >= 0),
        "broken": _running(generator.random(shape) < version.broken),
    }


def _pairs(scenario: Scenario, pair: Pair, generator: np.random.Generator, looks: int, lot: int) -> Sums:
    shape = (looks, lot)
    every = np.ones(shape, dtype=bool)
    sums = {
        "compared": np.full(looks, lot).cumsum(),
        "failed": _running(generator.random(shape) < pair.failures),
    }
    if scenario.task == "detect":
        for name, rate in (("missed", pair.missed), ("extra", pair.extra)):
            faces = generator.geometric(1 / (1 + scenario.baseline.faces), shape) - 1
            sums[name] = _moments(generator.binomial(faces, rate) / np.maximum(faces, 1), faces > 0)
        shifts = pair.score_shift + 0.05 * generator.standard_normal(shape)
        sums["score_shift"] = _moments(shifts, every)
    elif scenario.task == "embed":
        spread = (1 - pair.cosine**2) / np.sqrt(pair.dimensions)
        sums["cosine"] = _moments(pair.cosine + spread * generator.standard_normal(shape), every)
        sums["norm_ratio"] = _moments(0.1 * generator.standard_normal(shape), every)
    else:
        sums["mismatched"] = _moments(generator.random(shape) < pair.mismatched, every)
    return sums


def _running(values: npt.NDArray[np.generic]) -> Numbers:
    """The sum of all lots up to each: of `[lots, requests]`, `[lots]`."""
    running: Numbers = values.sum(axis=1, dtype=np.float64).cumsum()
    return running


def _moments(values: npt.NDArray[np.generic], counted: npt.NDArray[np.bool_]) -> Numbers:
    """Count, sum and sum of squares of those counted, of all lots up to each: `[3, lots]`."""
    kept = np.where(counted, values, 0.0)
    return np.stack([_running(counted), _running(kept), _running(kept**2)])


def _arm_at(sums: Sums, look: int) -> ArmEvidence:
    evidence = ArmEvidence()
    answered, failed = int(sums["answered"][look]), int(sums["failed"][look])
    evidence.outcomes[Outcome.OK], evidence.outcomes[Outcome.ERROR] = answered - failed, failed
    evidence.looked_into = evidence.rows = evidence.looked_for_faces = answered
    evidence.not_finite, evidence.empty = int(sums["broken"][look]), int(sums["empty"][look])
    evidence.latency = Durations.of(_at(sums, "latency", look))
    evidence.faces, evidence.top_score = _at(sums, "faces", look), _at(sums, "score", look)
    evidence.log_norm = _at(sums, "norm", look)
    return evidence


def _shadow_at(sums: Sums, look: int) -> ShadowEvidence:
    evidence = ShadowEvidence()
    evidence.failures = int(sums["failed"][look])
    evidence.compared = int(sums["compared"][look]) - evidence.failures
    evidence.missed, evidence.extra = _at(sums, "missed", look), _at(sums, "extra", look)
    evidence.score_shift = _at(sums, "score_shift", look)
    evidence.cosine, evidence.log_norm_ratio = _at(sums, "cosine", look), _at(sums, "norm_ratio", look)
    evidence.mismatched = _at(sums, "mismatched", look)
    return evidence


def _at(sums: Sums, name: str, look: int) -> Moments:
    if name not in sums:
        return Moments()
    count, total, squares = sums[name][:, look]
    return Moments.of(int(count), float(total), float(squares))
