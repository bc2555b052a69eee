"""The warm-up of a whole version: every instance runs the samples, every session each batch size."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from naiad.runtime.warmup import WarmupReport, warm_up
from naiad.runtime.warmup_samples import run_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.session import Session
    from naiad.runtime.warmup import Outcome
    from naiad.runtime.warmup_samples import PreparedSample


def warm_up_all(
    sessions: Sequence[Session], config: ModelConfig, samples: Sequence[PreparedSample]
) -> WarmupReport:
    """Run the config's samples on every instance, then zeros of what is left once in every session.

    Args:
        sessions: one for each instance; those on the CPU share one.
        config: complete.
        samples: those of the config.

    Raises:
        InvalidArgumentError: a sample does not run.
    """
    outcomes = [run_samples(session, config, samples) for session in sessions]
    done = {prepared.sample.batch_size for prepared in samples}
    report = _merge(warm_up(session, config, done=done) for session in dict.fromkeys(sessions))
    return replace(report, samples=tuple(map(_worst_outcome, zip(*outcomes, strict=True))))


def _merge(reports: Iterable[WarmupReport]) -> WarmupReport:
    """The first session's runs stand for all; failures, and what is not finite, are kept, each once."""
    merged = list(reports)
    broken = {run.shapes: run.not_finite for report in merged for run in report.runs if run.not_finite}
    return WarmupReport(
        runs=tuple(replace(run, not_finite=broken.get(run.shapes, run.not_finite)) for run in merged[0].runs),
        skipped=_once(report.skipped for report in merged),
        warnings=_once(report.warnings for report in merged),
        quiet=_once(report.quiet for report in merged),
    )


def _worst_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """That of the instance, if there is one, whose outputs were not finite."""
    return max(outcomes, key=lambda outcome: len(outcome.not_finite))


def _once(sentences: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(sentences)))
