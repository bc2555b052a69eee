"""The warm-up of a whole version: every instance runs the samples, every session each batch size."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from naiad.runtime.warmup import WarmupReport, warm_up
from naiad.runtime.warmup_samples import run_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.session import Session
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
    for session in sessions:
        run_samples(session, config, samples)
    done = {prepared.sample.batch_size for prepared in samples}
    return _merge(warm_up(session, config, done=done) for session in dict.fromkeys(sessions))


def _merge(reports: Iterable[WarmupReport]) -> WarmupReport:
    """The first session's runs stand for all; failures are kept, each once."""
    merged = list(reports)
    return WarmupReport(
        runs=merged[0].runs,
        skipped=_once(report.skipped for report in merged),
        warnings=_once(report.warnings for report in merged),
        quiet=_once(report.quiet for report in merged),
    )


def _once(sentences: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(sentences)))
