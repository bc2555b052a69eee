"""One experiment in force, over versions that serve: who answers, what is learnt, what is decided."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from structlog.testing import capture_logs
from support.versions import NotedAside, serving_versions, tells_its_version

from naiad.config.experiment_config import ExperimentConfig
from naiad.lifecycle.caller import NOBODY, Caller, SequenceStep
from naiad.lifecycle.experiments.decisions import Decisions
from naiad.lifecycle.experiments.evidence import Outcome
from naiad.lifecycle.experiments.experiment import Experiment
from naiad.vision.agreement import TensorAgreement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.lifecycle.version import ServingVersion

    Versions = dict[int, ServingVersion]

HALVES = {"weights": {"1": 50, "2": 50}}
STRICT = {"min_requests": 10, "max_latency_ratio": None}


@pytest_asyncio.fixture
async def versions(tmp_path: Path) -> AsyncIterator[Versions]:
    """1 to 3, each of which adds its number."""
    models = {number: tells_its_version(number) for number in (1, 2, 3)}
    async with serving_versions(tmp_path, "m", models) as serving:
        yield serving


def begin(
    versions: Versions,
    fields: dict[str, Any],
    decisions: Decisions | None = None,
    *,
    serving: tuple[int, ...] = (1, 2, 3),
    now_s: float = 0.0,
) -> Experiment:
    config = ExperimentConfig.model_validate(fields)
    made = Experiment("m", config, aside=NotedAside(), decisions=decisions or Decisions(), now_s=now_s)
    made.bind({number: versions[number] for number in serving}, now_s)
    return made


def shares(experiment: Experiment) -> dict[int, float]:
    return {version: experiment.share_of(version) for version in experiment.config.versions}


def answer(experiment: Experiment, version: int, outcome: Outcome = Outcome.OK, count: int = 200) -> None:
    for _ in range(count):
        experiment.evidence[version].record(outcome, 0.001)


def kinds(experiment: Experiment) -> list[tuple[str, int | None, str]]:
    return [(decision.kind, decision.candidate, decision.by) for decision in experiment.history]


async def test_requests_go_by_the_weights_and_each_version_of_it_is_watched(versions: Versions) -> None:
    experiment = begin(versions, HALVES)
    chosen = Counter(experiment.choose(NOBODY) for _ in range(200))
    assert set(chosen) == {1, 2}
    assert [versions[number].watch is not None for number in (1, 2, 3)] == [True, True, False]
    assert set(experiment.ready) == {1, 2}
    experiment.leave()
    assert [versions[number].watch for number in (1, 2, 3)] == [None] * 3


async def test_the_baseline_stands_in_for_a_version_that_is_not_there(versions: Versions) -> None:
    experiment = begin(versions, HALVES, serving=(1,))
    assert {experiment.choose(NOBODY) for _ in range(50)} == {1}
    experiment.bind({1: versions[1], 2: versions[2]}, 1.0)
    assert shares(experiment) == {1: 0.5, 2: 0.5}


async def test_nothing_is_judged_before_both_versions_have_been_there(versions: Versions) -> None:
    experiment = begin(versions, HALVES | {"guard": STRICT}, serving=(1,))
    experiment.tick(1.0)
    assert experiment.verdicts == {}


async def test_evidence_of_a_version_begins_anew_when_it_is_loaded_anew(
    versions: Versions, tmp_path: Path
) -> None:
    experiment = begin(versions, HALVES | {"shadow": {"version": 2}})
    for number in (1, 2):
        answer(experiment, number)
    assert experiment.shadow is not None
    experiment.shadow.record_failure()
    experiment.bind(versions, 1.0)  # a version of another model has come: nothing has changed here
    assert experiment.evidence[2].answered == 200
    assert experiment.shadow.failures == 1
    async with serving_versions(tmp_path, "again", {2: tells_its_version(2)}) as anew:
        experiment.bind({1: versions[1], 2: anew[2]}, 2.0)
        assert [experiment.evidence[number].answered for number in (1, 2)] == [200, 0]
        assert experiment.shadow.failures == 0
        experiment.leave()


async def test_a_step_of_the_ramp_is_taken_at_the_first_look_after_its_time(versions: Versions) -> None:
    at = datetime.fromtimestamp(1_000, UTC)
    fields = {"weights": {"1": 1, "2": 0}, "ramp": [{"at": at.isoformat(), "weights": {"1": 1, "2": 3}}]}
    experiment = begin(versions, fields, now_s=990.0)
    experiment.tick(999.9)
    assert shares(experiment) == {1: 1, 2: 0}
    with capture_logs() as logs:
        experiment.tick(1_000.0)
        experiment.tick(1_001.0)
    assert shares(experiment) == {1: 0.25, 2: 0.75}
    assert [line["weights"] for line in logs if line["event"] == "experiment ramp"] == [{1: 1, 2: 3}]


async def test_a_candidate_that_fails_is_rolled_back_once_and_its_callers_get_the_baseline(
    versions: Versions,
) -> None:
    told = []
    experiment = begin(versions, HALVES | {"guard": STRICT})
    experiment.on_change = lambda: told.append(shares(experiment))
    answer(experiment, 1)
    answer(experiment, 2, Outcome.ERROR)
    with capture_logs() as logs:
        experiment.tick(1.0)
        experiment.tick(2.0)
    assert kinds(experiment) == [("roll_back", 2, "guard")]
    assert "error rate 100 %" in experiment.history[0].reason
    assert {experiment.choose(NOBODY) for _ in range(50)} == {1}
    assert told == [{1: 1, 2: 0}]
    (line,) = [line for line in logs if line["event"] == "experiment decided"]
    assert (line["decision"], line["candidate"], line["who"]) == ("roll_back", 2, "model owner")


async def test_without_a_guard_nothing_is_judged(versions: Versions) -> None:
    experiment = begin(versions, HALVES)
    answer(experiment, 1)
    answer(experiment, 2, Outcome.ERROR)
    experiment.tick(1.0)
    assert (experiment.verdicts, kinds(experiment)) == ({}, [])


async def test_each_bad_candidate_is_rolled_back_without_waiting_for_the_other(versions: Versions) -> None:
    fields = {"weights": {"1": 1, "2": 1, "3": 1}, "guard": STRICT | {"cooldown_s": 600}}
    experiment = begin(versions, fields)
    answer(experiment, 1)
    for number in (2, 3):
        answer(experiment, number, Outcome.ERROR)
    experiment.tick(1.0)
    assert kinds(experiment) == [("roll_back", 2, "guard"), ("roll_back", 3, "guard")]
    assert shares(experiment) == {1: 1, 2: 0, 3: 0}


async def test_a_dry_run_says_it_once_and_does_nothing(versions: Versions) -> None:
    experiment = begin(versions, HALVES | {"guard": STRICT | {"dry_run": True, "cooldown_s": 0}})
    answer(experiment, 1)
    answer(experiment, 2, Outcome.ERROR)
    for now_s in (1.0, 2.0, 3.0):
        experiment.tick(now_s)
    assert kinds(experiment) == [("roll_back", 2, "guard")]
    assert experiment.history[0].dry_run
    assert shares(experiment) == {1: 0.5, 2: 0.5}
    assert experiment.rolled_back == {}


PROMOTING = STRICT | {"max_error_rate_increase": None, "max_latency_ratio": 1.5, "promote_after": 200}


async def test_a_candidate_within_its_limits_is_promoted_and_answers_all(versions: Versions) -> None:
    experiment = begin(versions, HALVES | {"guard": PROMOTING, "keys": {"1": ["alice"]}})
    answer(experiment, 1)
    answer(experiment, 2, count=199)
    experiment.tick(1.0)
    assert kinds(experiment) == []
    answer(experiment, 2, count=1)
    experiment.tick(2.0)
    experiment.tick(3.0)
    assert kinds(experiment) == [("promote", 2, "guard")]
    assert {experiment.choose(NOBODY) for _ in range(50)} == {2}
    assert experiment.choose(Caller("alice")) == 2
    assert experiment.standing == 2


async def test_a_promotion_waits_for_the_cool_down(versions: Versions) -> None:
    experiment = begin(versions, HALVES | {"guard": PROMOTING | {"cooldown_s": 60}})
    experiment.decide(experiment.decision("resume", None, "", "tester", 0.0), 0.0)
    for number in (1, 2):
        answer(experiment, number)
    experiment.tick(59.0)
    assert shares(experiment) == {1: 0.5, 2: 0.5}
    experiment.tick(60.0)
    assert shares(experiment) == {1: 0, 2: 1}


async def test_who_is_resumed_gets_its_share_and_is_judged_by_what_it_does_from_then_on(
    versions: Versions,
) -> None:
    experiment = begin(versions, HALVES | {"guard": STRICT})
    answer(experiment, 1)
    answer(experiment, 2, Outcome.ERROR)
    experiment.tick(1.0)
    experiment.decide(experiment.decision("resume", 2, "mended", "tester", 2.0), 2.0)
    assert shares(experiment) == {1: 0.5, 2: 0.5}
    experiment.tick(3.0)
    assert kinds(experiment) == [("roll_back", 2, "guard"), ("resume", 2, "tester")]
    answer(experiment, 2, Outcome.ERROR)  # it was not mended
    experiment.tick(4.0)
    assert kinds(experiment)[2:] == [("roll_back", 2, "guard")]


async def test_decisions_hold_for_the_same_file_and_not_for_another_one(versions: Versions) -> None:
    decisions = Decisions()
    first = begin(versions, HALVES, decisions)
    first.decide(first.decision("roll_back", 2, "", "tester", 1.0), 1.0)
    assert shares(begin(versions, HALVES, decisions)) == {1: 1, 2: 0}
    other = begin(versions, {"weights": {"1": 40, "2": 60}}, decisions)
    assert shares(other) == {1: 0.4, 2: 0.6}
    assert kinds(other) == [("roll_back", 2, "tester")]  # the history is the model's


async def test_the_baseline_is_mirrored_until_its_shadow_is_rolled_back(versions: Versions) -> None:
    fields = {"weights": {"1": 1}, "shadow": {"version": 2}, "guard": STRICT}
    experiment = begin(versions, fields)

    def mirrored() -> list[bool]:
        watches = [versions[number].watch for number in (1, 2)]
        return [watch is not None and watch.keeps_inputs for watch in watches]

    assert mirrored() == [True, False]
    assert {experiment.choose(NOBODY) for _ in range(50)} == {1}
    assert experiment.shadow is not None
    for _ in range(200):
        experiment.shadow.record(TensorAgreement(10, 10, 1.0, 1.0))
    experiment.tick(1.0)
    assert kinds(experiment) == [("roll_back", 2, "guard")]
    assert "of an answer's values differ from version 1's" in experiment.history[0].reason
    assert mirrored() == [False, False]


async def test_sequences_go_on_where_they_began_when_another_file_takes_the_place(versions: Versions) -> None:
    first = begin(versions, {"weights": {"1": 1, "2": 0}})
    begun = Caller("sequence 7", sequence=SequenceStep(7, starts=True))
    assert first.choose(begun) == 1
    second = begin(versions, {"weights": {"1": 0, "2": 1}})
    second.follow(first)
    assert second.choose(Caller("sequence 7", sequence=SequenceStep(7))) == 1
    assert second.choose(Caller("sequence 8", sequence=SequenceStep(8, starts=True))) == 2
