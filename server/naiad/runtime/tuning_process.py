"""Measured layouts of the whole process: one measurement at a time, away from loads, each model's once."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.clock import MonotonicClock
from naiad.core.datatypes import zeros
from naiad.core.errors import NaiadError
from naiad.runtime.layout import candidates
from naiad.runtime.ragged import as_ragged
from naiad.runtime.session_settings import read_session_settings
from naiad.runtime.tuning import MIN_RUN_NS, decide, is_trusted, keep_rule
from naiad.runtime.tuning_rounds import Subject, measure, time_run
from naiad.runtime.warmup import output_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.core.tensors import Array
    from naiad.runtime.layout import MeasuredLayout
    from naiad.runtime.session import Session
    from naiad.runtime.warmup import WarmupReport
    from naiad.runtime.warmup_samples import PreparedSample

MAX_BATCHES_BYTES = 1024 * 1024 * 1024
"""Bytes of the largest batches that the instances of a model may hold together, where the server chooses."""

MAX_KNOWN = 1_000
"""Models whose layout is remembered; then the oldest is measured again."""

_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class WarmModel:
    """A version that is open and warm with `rule` instances on the CPU, which share `threads`.

    `config` is complete, `report` and `samples` are of its warm-up. `open_session` opens the same file for
    another number of instances; for the first one that took `open_ns`.
    """

    config: ModelConfig
    session: Session
    report: WarmupReport
    samples: Sequence[PreparedSample]
    rule: int
    threads: int
    open_session: Callable[[int], Session]
    open_ns: int


class LayoutTuner:
    """Measures layouts, and remembers them for reloads. Its methods are called from loader threads.

    `serving` says that clients are answered meanwhile; its owner sets it.
    """

    def __init__(self, *, limit_s: float, clock: Clock | None = None) -> None:
        """Create a tuner.

        Args:
            limit_s: about how long the measurement of one model may take.
            clock: the monotonic clock.
        """
        self.serving = False
        self._limit_ns = int(limit_s * 1e9)
        self._clock = clock or MonotonicClock()
        self._known: dict[str, MeasuredLayout] = {}
        self._changed = threading.Condition()
        self._loading = 0
        self._is_measuring = False

    @contextmanager
    def loading(self) -> Iterator[None]:
        """While a session is opened and warmed up, which takes CPUs: it waits for a measurement to end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_measuring)
            self._loading += 1
        try:
            yield
        finally:
            with self._changed:
                self._loading -= 1
                self._changed.notify_all()

    def known(self, key: str) -> MeasuredLayout | None:
        """What an earlier load of the same model found."""
        with self._changed:
            return self._known.get(key)

    def tune(self, key: str, model: WarmModel) -> MeasuredLayout:
        """The best layout of a model that is open and warm; the rule's where a measurement says nothing.

        Args:
            key: from `model_key`; the decision is remembered under it.
            model: what to measure.
        """
        feeds = largest_feeds(model.config, model.report, model.samples)
        if feeds is None:
            why = "not measured, because warm-up found no input that runs (model_warmup gives it one)"
            return keep_rule(model.rule, model.threads, why)
        subject = _subject(model, feeds)
        try:
            run_ns = time_run(subject, subject.session, self._clock)
            if run_ns < MIN_RUN_NS:
                took, least = f"{run_ns / 1e6:.2g} ms", f"{MIN_RUN_NS / 1e6:g} ms"
                why = f"not measured, because one run takes {took}, less than {least}"
                return keep_rule(model.rule, model.threads, why)
            with self._alone():
                outcome = measure(subject, self._clock, run_ns=run_ns, limit_ns=self._limit_ns)
        except NaiadError as error:
            return keep_rule(model.rule, model.threads, f"measuring failed: {error.message}")
        chosen = decide(outcome, circumstances=" while the server served" * self.serving)
        if is_trusted(outcome):
            self._remember(key, chosen)
        return chosen

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The time of one measurement: others wait, and so do loads that have not begun.

        Loads at work are waited for, but not for long: one may build an engine for minutes.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_measuring)
            self._is_measuring = True
            self._changed.wait_for(lambda: not self._loading, _PATIENCE_S)
        try:
            yield
        finally:
            with self._changed:
                self._is_measuring = False
                self._changed.notify_all()

    def _remember(self, key: str, chosen: MeasuredLayout) -> None:
        with self._changed:
            self._known[key] = chosen._replace(reason=f"{chosen.reason} (at an earlier load)")
            while len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]


def _subject(model: WarmModel, feeds: dict[str, Array]) -> Subject:
    largest_batch = max(
        1, sum(array.nbytes for array in feeds.values()) * max(1, model.config.max_batch_size)
    )
    most = max(1, MAX_BATCHES_BYTES // largest_batch)
    return Subject(
        session=model.session,
        rule=model.rule,
        threads=model.threads,
        challengers=[count for count in candidates(model.threads, most=most) if count != model.rule],
        open_session=model.open_session,
        open_ns=model.open_ns,
        feeds=feeds,
        outputs=output_names(model.session, model.config),
    )


def model_key(path: Path, config: ModelConfig, threads: int) -> str:
    """What a layout depends on: the file's bytes, the config's sessions and shapes, the CPU threads.

    Args:
        path: the model file.
        config: as read, not completed: what is completed comes from the file.
        threads: of the budget.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    said = (read_session_settings(config), config.max_batch_size, config.inputs, config.vision, config.warmup)
    return f"{digest} {threads} {said!r}"


def largest_feeds(
    config: ModelConfig, report: WarmupReport, samples: Sequence[PreparedSample]
) -> dict[str, Array] | None:
    """The largest of a batch of one that warm-up has run, or None if no such run went well.

    Args:
        config: complete.
        report: of the warm-up.
        samples: those of the config, which have all run.
    """
    datatypes = {tensor.name: tensor.datatype for tensor in config.inputs}
    runs = [dict(run.shapes) for run in report.runs if run.batch_size == 1]
    made = [
        as_ragged(config, {name: zeros(datatypes[name], shape) for name, shape in shapes.items()})
        for shapes in runs
    ]
    made += [each.feeds for each in samples if each.sample.count and each.sample.batch_size <= 1]
    return max(made, key=lambda feeds: sum(array.nbytes for array in feeds.values()), default=None)
