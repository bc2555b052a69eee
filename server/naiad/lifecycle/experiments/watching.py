"""What becomes of the requests of one version in an experiment: counted here, looked into aside."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

from naiad.core.errors import CancelledError, InvalidArgumentError
from naiad.lifecycle.experiments.aside import JobFailed, ShadowJob, ShadowResult, SignsJob, SignsResult
from naiad.lifecycle.experiments.evidence import Outcome, outcome_of
from naiad.scheduling.cached import CACHED

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from naiad.core.tensors import InferRequest, InferResponse
    from naiad.lifecycle.experiments.aside import AsideProcess, AsideResult
    from naiad.lifecycle.experiments.evidence import ArmEvidence, ShadowEvidence

SIGNS_PER_S = 20.0
"""Answers of a version that are looked into each second, at most: each takes a millisecond or so aside."""


class Mirror:
    """Copies of a baseline's requests for its shadow."""

    def __init__(
        self,
        candidate: int,
        share: float,
        evidence: ShadowEvidence,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Begin without a copy.

        Args:
            candidate: the version that is shadowed.
            share: the part of the requests that is copied, above 0 to 1.
            evidence: takes what comes of them.
            draw: random numbers from 0 to 1.
        """
        self.candidate = candidate
        self.evidence = evidence
        self._share = share
        self._draw = draw

    def wants(self) -> bool:
        """Whether to copy the next request."""
        return self._share >= 1 or self._draw() < self._share


class VersionWatch:
    """Follows the requests of one version. Used on the event loop's thread.

    A request that is cancelled, or refused because the caller is wrong, says nothing about the version and is
    counted apart; one that the version has taken and fails is its error, whomever the engine blames.
    """

    def __init__(
        self,
        model: str,
        version: int,
        evidence: ArmEvidence,
        aside: AsideProcess,
        mirror: Mirror | None = None,
        *,
        has_signs: bool = True,
    ) -> None:
        """Begin to watch.

        Args:
            model: the model's name.
            version: the version's number.
            evidence: takes what becomes of the requests.
            aside: looks into answers, and runs the mirror's candidate.
            mirror: of the baseline of a shadow.
            has_signs: whether answers are looked into.
        """
        self.evidence = evidence
        self.mirror = mirror
        self._model = model
        self._version = version
        self._aside = aside
        self._signs_due = time.perf_counter() if has_signs else float("inf")

    @property
    def keeps_inputs(self) -> bool:
        """Whether a request's tensors are copied after it was answered."""
        return self.mirror is not None

    def follow(self, request: InferRequest, future: asyncio.Future[InferResponse]) -> None:
        """Record what becomes of a request that the version has taken."""
        future.add_done_callback(partial(self._done, request, time.perf_counter()))

    def refused(self, error: Exception) -> None:
        """Record that the version has not taken a request: its queue is full, or it drains."""
        self.evidence.record(outcome_of(error), 0.0)

    def _done(self, request: InferRequest, began_s: float, future: asyncio.Future[InferResponse]) -> None:
        now_s = time.perf_counter()
        error = CancelledError("") if future.cancelled() else future.exception()
        if error is not None:
            self.evidence.record(_end_of(error), now_s - began_s)
            return
        response = future.result()
        if response.batch_reason == CACHED:
            self.evidence.record_cached()
        else:
            self.evidence.record(Outcome.OK, now_s - began_s)
        if self.mirror is not None and self.mirror.wants():
            self._copy(self.mirror, request, response)
        if now_s >= self._signs_due:
            self._signs_due = now_s + 1 / SIGNS_PER_S
            job = SignsJob(self._model, self._version, response.outputs, request.inputs)
            self._aside.submit(job, self._on_signs)

    def _copy(self, mirror: Mirror, request: InferRequest, response: InferResponse) -> None:
        if request.sources or request.sequence_id:  # no tensors to copy; no state of the candidate's own
            mirror.evidence.record_skipped()
            return
        job = ShadowJob(
            self._model,
            self._version,
            mirror.candidate,
            request.inputs,
            response.outputs,
            request.request_id,
        )
        if not self._aside.submit(job, partial(_on_shadow, mirror.evidence)):
            mirror.evidence.record_skipped()

    def _on_signs(self, result: AsideResult) -> None:
        if isinstance(result, SignsResult):
            self.evidence.record_signs(result.signs)


def _end_of(error: BaseException) -> Outcome:
    """How a request ended that the version had taken: it had passed every check of what the version asks for.

    The engine blames the inputs for most of what a graph cannot do with them.
    """
    return Outcome.ERROR if isinstance(error, InvalidArgumentError) else outcome_of(error)


def _on_shadow(evidence: ShadowEvidence, result: AsideResult) -> None:
    if isinstance(result, ShadowResult):
        evidence.record(result.agreement, result.candidate_ms)
    elif isinstance(result, JobFailed) and result.is_candidates_fault:
        evidence.record_failure()
    else:
        evidence.record_skipped()
