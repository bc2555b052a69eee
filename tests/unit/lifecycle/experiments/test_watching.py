"""What becomes of a version's requests: who is to blame, what is copied to a shadow, what is looked into."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.versions import NotedAside

from naiad.core.errors import (
    CallerFaultError,
    CancelledError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from naiad.core.tensors import InferRequest, InferResponse, ModelKey
from naiad.lifecycle.experiments import watching
from naiad.lifecycle.experiments.aside import JobFailed, ShadowJob, ShadowResult, SignsJob, SignsResult
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome, ShadowEvidence
from naiad.lifecycle.experiments.watching import SIGNS_PER_S, Mirror, VersionWatch
from naiad.scheduling.cached import CACHED
from naiad.vision.agreement import AnswerSigns, TensorAgreement

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNS = AnswerSigns("tensors", 1, None, None, None, is_finite=False)
AGREEMENT = TensorAgreement(values=1, mismatched=1, max_difference=2.0, disagreement=1.0)


def request(**fields: Any) -> InferRequest:
    return InferRequest("m", None, {"INPUT": np.zeros((1, 1), np.float32)}, request_id="r1", **fields)


def response(**fields: Any) -> InferResponse:
    return InferResponse(ModelKey("m", 1), {"OUTPUT": np.ones((1, 1), np.float32)}, **fields)


async def follow(
    watch: VersionWatch, outcome: InferResponse | Exception | None, asked: InferRequest | None = None
) -> None:
    """Have a request end so; None cancels it."""
    future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
    watch.follow(asked or request(), future)
    if outcome is None:
        future.cancel()
    elif isinstance(outcome, Exception):
        future.set_exception(outcome)
        future.exception()
    else:
        future.set_result(outcome)
    await asyncio.sleep(0)  # the future's callbacks run in the loop's next turn


def watch_of(aside: NotedAside, mirror: Mirror | None = None, *, has_signs: bool = False) -> VersionWatch:
    return VersionWatch("m", 1, ArmEvidence(), aside, mirror, has_signs=has_signs)


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        (response(), Outcome.OK),
        (InternalError("it crashed"), Outcome.ERROR),
        (DeadlineExceededError("too late"), Outcome.ERROR),
        (UnavailableError("it drains"), Outcome.ERROR),
        # The request had passed every check: it is the graph that cannot do it.
        (InvalidArgumentError("Non-zero status code returned while running Gather node"), Outcome.ERROR),
        (CallerFaultError("no such class"), Outcome.CALLERS_FAULT),
        (CancelledError("it left"), Outcome.CANCELLED),
        (None, Outcome.CANCELLED),
    ],
    ids=str,
)
async def test_each_end_of_a_request_that_was_taken_is_counted_once(
    outcome: InferResponse | Exception | None, counted: Outcome
) -> None:
    watch = watch_of(NotedAside())
    await follow(watch, outcome)
    assert [end for end in Outcome if watch.evidence.outcomes[end]] == [counted]
    assert sum(watch.evidence.outcomes) == 1
    assert watch.evidence.latency.logs.count == (counted is Outcome.OK)


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (UnavailableError("its queue is full"), Outcome.ERROR),
        (InvalidArgumentError("must specify the START flag"), Outcome.CALLERS_FAULT),
    ],
    ids=str,
)
async def test_a_request_that_is_not_taken_is_the_version_s_error_unless_the_caller_is_wrong(
    error: Exception, counted: Outcome
) -> None:
    watch = watch_of(NotedAside())
    watch.refused(error)
    assert [end for end in Outcome if watch.evidence.outcomes[end]] == [counted]


async def test_an_answer_from_the_response_cache_says_nothing_about_latency() -> None:
    """Who gets more requests has more of them in the cache: equal versions would look unlike."""
    watch = watch_of(NotedAside())
    await follow(watch, response(batch_reason=CACHED, batch_size=0))
    assert watch.evidence.outcomes[Outcome.OK] == 1
    assert watch.evidence.latency.logs.count == 0


async def test_what_is_answered_is_copied_to_the_shadow_with_its_answer() -> None:
    aside, shadow = NotedAside(), ShadowEvidence()
    watch = watch_of(aside, Mirror(2, 1.0, shadow))
    assert watch.keeps_inputs
    asked, answered = request(), response()
    await follow(watch, answered, asked)
    ((job, done),) = aside.jobs
    assert job == ShadowJob("m", 1, 2, asked.inputs, answered.outputs, "r1")
    done(ShadowResult(AGREEMENT, 3.0))
    assert (shadow.compared, shadow.failures, shadow.skipped) == (1, 0, 0)
    assert shadow.mismatched.mean == 1


@pytest.mark.parametrize("outcome", [None, InternalError("it crashed")], ids=str)
async def test_what_the_baseline_does_not_answer_is_not_copied(outcome: Exception | None) -> None:
    aside = NotedAside()
    await follow(watch_of(aside, Mirror(2, 1.0, ShadowEvidence())), outcome)
    assert aside.jobs == []


@pytest.mark.parametrize(
    ("is_candidates_fault", "failures", "skipped"), [(True, 1, 0), (False, 0, 1)], ids=["its own", "ours"]
)
async def test_a_copy_that_fails_counts_against_the_candidate_only_if_it_is_its_fault(
    *, is_candidates_fault: bool, failures: int, skipped: int
) -> None:
    aside, shadow = NotedAside(), ShadowEvidence()
    await follow(watch_of(aside, Mirror(2, 1.0, shadow)), response())
    ((_, done),) = aside.jobs
    done(JobFailed("it did not work", is_candidates_fault=is_candidates_fault))
    assert (shadow.compared, shadow.failures, shadow.skipped) == (0, failures, skipped)


async def test_copies_that_there_is_no_room_for_and_those_of_sequences_are_skipped_and_counted() -> None:
    """A candidate aside has no sequence's state, and tensors that were never made cannot be copied."""
    aside, shadow = NotedAside(has_room=False), ShadowEvidence()
    watch = watch_of(aside, Mirror(2, 1.0, shadow))
    await follow(watch, response())
    assert shadow.skipped == 1
    aside.has_room = True
    await follow(watch, response(), request(sequence_id=7))
    await follow(watch, response(), request(sources={"INPUT": lambda _: None}))
    assert shadow.skipped == 3
    assert aside.jobs == []


async def test_a_share_of_the_requests_is_copied() -> None:
    aside, draws = NotedAside(), iter([0.2, 0.25, 0.9, 0.0])
    watch = watch_of(aside, Mirror(2, 0.25, ShadowEvidence(), draw=lambda: next(draws)))
    for _ in range(4):
        await follow(watch, response())
    assert len(aside.jobs) == 2


async def test_a_version_without_a_shadow_keeps_no_inputs() -> None:
    aside = NotedAside()
    watch = watch_of(aside)
    assert not watch.keeps_inputs
    await follow(watch, response())
    assert aside.jobs == []


async def test_answers_are_looked_into_so_many_times_a_second_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_s = 1 / SIGNS_PER_S
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(watching, "time", SimpleNamespace(perf_counter=lambda: clock.now_s))
    aside = NotedAside()
    watch = watch_of(aside, has_signs=True)
    counts = []
    for passed_s in (0.0, 0.4 * wait_s, 1.1 * wait_s, 1.9 * wait_s):
        clock.now_s = 100.0 + passed_s
        await follow(watch, response())
        counts.append(len(aside.jobs))
    assert counts == [1, 1, 2, 2]


async def test_what_an_answer_shows_is_recorded_and_a_look_that_failed_is_not() -> None:
    aside = NotedAside()
    watch = watch_of(aside, has_signs=True)
    answered = response()
    await follow(watch, answered)
    ((job, done),) = aside.jobs
    assert isinstance(job, SignsJob)
    assert (job.version, job.outputs) == (1, answered.outputs)
    told: Callable[[Any], None] = done
    told(JobFailed("no head", is_candidates_fault=False))
    assert watch.evidence.looked_into == 0
    told(SignsResult(SIGNS))
    assert (watch.evidence.looked_into, watch.evidence.not_finite) == (1, 1)
