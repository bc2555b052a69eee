"""Measuring: real threads call sessions of known speed; rates, time and what is open at once come out right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.layouts import FEEDS, ThreadTime, TimedSession, Workshop

from naiad.core.errors import InternalError
from naiad.runtime import tuning_rounds
from naiad.runtime.tuning import Outcome, decide
from naiad.runtime.tuning_rounds import Subject, measure, time_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECOND = 1_000_000_000
MS = 1_000_000


@pytest.fixture(autouse=True)
def _a_cpu_for_each_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The time here is made up, and how long the kernel let real threads wait must not come into it."""
    monkeypatch.setattr(tuning_rounds, "_SCHEDSTAT", tmp_path / "none")


def subject(
    clock: ThreadTime,
    workshop: Workshop,
    run_ns: float,
    *,
    rule: int = 2,
    others: Sequence[int] = (1,),
    open_ns: int = 0,
) -> Subject:
    return Subject(
        session=TimedSession(clock, run_ns),
        rule=rule,
        threads=max(rule, *others),
        challengers=others,
        open_session=workshop.open,
        open_ns=open_ns,
        feeds=FEEDS,
        outputs=["OUTPUT0"],
    )


def run(clock: ThreadTime, measured: Subject, limit_ns: int = SECOND) -> Outcome:
    run_ns = time_run(measured, measured.session, clock)
    return measure(measured, clock, run_ns=run_ns, limit_ns=limit_ns)


def test_rates_are_those_of_all_callers_together() -> None:
    """Two callers of 2 ms each make 1,000 runs a second, one of 1.6 ms makes 625."""
    clock = ThreadTime()
    outcome = run(clock, subject(clock, Workshop(clock, {1: 1.6 * MS}), 2 * MS))
    (challenge,) = outcome.challenges
    assert {round(pair.rule.rate) for pair in challenge.pairs} == {1_000}
    assert {round(pair.challenger.rate) for pair in challenge.pairs} == {625}
    assert (outcome.run_ns, challenge.run_ns) == (2 * MS, 1.6 * MS)
    assert decide(outcome).instances == 2


def test_a_clear_winner_costs_three_rounds_and_not_the_whole_time() -> None:
    clock = ThreadTime()
    before = clock.now_ns()
    outcome = run(clock, subject(clock, Workshop(clock, {1: 1.6 * MS}), 2 * MS))
    assert len(outcome.challenges[0].pairs) == 3
    assert clock.now_ns() - before < SECOND / 2


def test_a_tie_is_measured_for_as_long_as_there_is_time_and_no_longer() -> None:
    clock = ThreadTime()
    before = clock.now_ns()
    outcome = run(clock, subject(clock, Workshop(clock, {1: 1 * MS}), 2 * MS))
    assert 0.9 < (clock.now_ns() - before) / SECOND < 1.2
    assert decide(outcome).instances == 1, "one run takes half as long"


@pytest.mark.parametrize("run_ms", [0.3, 5, 60, 120, 240])
def test_all_layouts_of_sixteen_threads_keep_to_the_time(run_ms: float) -> None:
    clock = ThreadTime()
    others = (16, 8, 2, 1)
    workshop = Workshop(clock, dict.fromkeys(others, run_ms * MS))
    before = clock.now_ns()
    outcome = run(clock, subject(clock, workshop, run_ms * MS, rule=4, others=others))
    # The first session is run a few times alone, and a round ends with the run at work.
    assert (clock.now_ns() - before) / SECOND < 1.1 + 10 * run_ms / 1_000
    told = sum(sentence.partition(" not tried")[0].count(" x ") for sentence in outcome.skipped)
    assert len(outcome.challenges) + told == 4
    assert workshop.most_open <= 1, "beside the rule's own session"
    assert all(session.closed for session in workshop.opened.values())


def test_a_run_or_an_open_that_takes_too_long_is_not_tried() -> None:
    clock = ThreadTime()
    workshop = Workshop(clock, {1: 400 * MS})
    slow = run(clock, subject(clock, workshop, 400 * MS))
    assert workshop.opened == {}
    assert slow.skipped == (
        "1 x 2 was not tried, a session takes 0 s to open and a run 400 ms: "
        "there are 1 s in all (--measure-layout-secs)",
    )
    large = run(clock, subject(clock, workshop, 2 * MS, open_ns=2 * SECOND))
    assert "a session takes 2 s to open" in large.skipped[0]


def test_layouts_that_are_not_tried_are_one_sentence() -> None:
    clock = ThreadTime()
    slow = run(clock, subject(clock, Workshop(clock, {}), 400 * MS, rule=4, others=(16, 8, 1)))
    (sentence,) = slow.skipped
    assert sentence.startswith("16 x 1, 8 x 2 and 1 x 16 were not tried, a session takes ")


def test_a_run_that_fails_ends_the_measurement_and_closes_its_session() -> None:
    clock = ThreadTime()
    broken = TimedSession(clock, MS, breaks=True)
    measured = Subject(
        session=TimedSession(clock, MS),
        rule=2,
        threads=2,
        challengers=(1,),
        open_session=lambda _: broken,
        open_ns=0,
        feeds=FEEDS,
        outputs=["OUTPUT0"],
    )
    with pytest.raises(InternalError, match="the run broke"):
        run(clock, measured)
    assert broken.closed
