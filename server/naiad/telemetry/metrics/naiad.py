"""Our own families, filled from the counters of each version."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from naiad.telemetry.metrics.experiments import add_aside, add_experiment
from naiad.telemetry.metrics.families import Families
from naiad.telemetry.metrics.table import NAIAD_METRICS
from naiad.telemetry.metrics.triton import model_labels
from naiad.telemetry.metrics.view import ENGINE_STATES
from naiad.telemetry.statistics import LATENCY_BOUNDS_NS, FailureReason, VersionStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from naiad.telemetry.metrics.view import (
        AsideView,
        ExperimentView,
        ModelState,
        RoomView,
        StreamsView,
        VersionState,
        VersionView,
    )
    from naiad.telemetry.statistics import BatchStatistics

BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128)

_SECONDS = tuple(repr(bound / 1e9) for bound in LATENCY_BOUNDS_NS)
_BATCHES = tuple(repr(float(bound)) for bound in BATCH_BOUNDS)

_OUTCOMES = {
    FailureReason.REJECTED: "expired",
    FailureReason.CANCELED: "cancelled",
    FailureReason.BACKEND: "failed",
    FailureReason.OTHER: "other",
}


def naiad_families(
    versions: Iterable[VersionView],
    states: Iterable[VersionState],
    models: Iterable[ModelState] = (),
    *,
    streams: Iterable[StreamsView] = (),
    rooms: Iterable[RoomView] = (),
    experiments: Iterable[ExperimentView] = (),
    aside: AsideView | None = None,
    version: str,
    started_s: float,
) -> list[Metric]:
    """Our families with their samples.

    Args:
        versions: what serves.
        states: what serves or should.
        models: what was loaded, or tried to be.
        streams: the streams of frames.
        rooms: the room that their frames take.
        experiments: those in force.
        aside: the process that runs shadows; None if there was no experiment yet.
        version: Naiad's own version.
        started_s: when the server began to serve, in Unix time.
    """
    families = Families(NAIAD_METRICS)
    for view in versions:
        _add_version(families, view)
    for state in states:
        number = "" if state.version is None else str(state.version)
        families.add("naiad_model_ready", {"model": state.model, "version": number}, int(state.ready))
    for model in models:
        labels = {"model": model.model}
        families.add("naiad_model_load_failures_total", labels, model.load_failures)
        families.add("naiad_model_change_refused", labels, int(model.is_change_refused))
    for each in streams:
        _add_streams(families, each)
    for room in rooms:
        place = {"model": room.model, "version": str(room.version)}
        families.add("naiad_stream_frames_at_work", place, room.at_work)
        families.add("naiad_stream_room", place, room.room)
    for experiment in experiments:
        add_experiment(families, experiment)
    if aside is not None:
        add_aside(families, aside)
    build = {"version": version, "python_version": platform.python_version()}
    families.add("naiad_build_info", build, 1)
    families.add("naiad_start_time_seconds", {}, started_s)
    return families.filled()


def _add_version(families: Families, view: VersionView) -> None:
    labels, counted = model_labels(view), view.statistics
    families.add("naiad_requests_total", model_labels(view, outcome="success"), counted.success.count)
    for failure, count in counted.failures.items():
        families.add("naiad_requests_total", model_labels(view, outcome=_OUTCOMES[failure]), count)
    for refusal, count in counted.refusals.items():
        families.add("naiad_requests_refused_total", model_labels(view, reason=refusal.value), count)
    for name, counts, ns in _latencies(counted):
        families.histogram(f"naiad_{name}_duration_seconds", labels, _SECONDS, counts, ns / 1e9)
    families.add("naiad_wasted_compute_seconds_total", labels, counted.wasted_ns / 1e9)
    families.add("naiad_wasted_batch_items_total", labels, counted.wasted_items)
    families.add("naiad_terminated_runs_total", labels, counted.terminated_count)
    items = sum(size * row.compute_infer.count for size, row in counted.batches.items())
    families.histogram("naiad_batch_size", labels, _BATCHES, _batch_counts(counted.batches), items)
    families.add("naiad_padding_rows_total", labels, counted.padding_rows)
    families.add("naiad_inline_runs_total", labels, counted.inline_runs)
    for why, count in counted.batch_reasons.items():
        families.add("naiad_batches_total", model_labels(view, reason=why), count)
    families.add("naiad_queue_size", labels, view.queued)
    families.add("naiad_instances", labels, view.instances)
    families.add("naiad_instances_busy", labels, view.busy)
    families.add("naiad_model_load_duration_seconds", labels, view.load_seconds)
    if view.engine is not None:
        for name in ENGINE_STATES:
            is_now = int(name == view.engine.state)
            families.add("naiad_tensorrt_engine_state", model_labels(view, state=name), is_now)
        families.add("naiad_tensorrt_engine_duration_seconds", labels, view.engine.seconds)


def _add_streams(families: Families, view: StreamsView) -> None:
    labels, counted = {"model": view.model}, view.counted
    families.add("naiad_streams", labels, counted.open)
    outcomes = {"answered": counted.answered, "failed": counted.failed, **counted.dropped}
    outcomes["abandoned"] = counted.abandoned
    for outcome, count in outcomes.items():
        families.add("naiad_stream_frames_total", {**labels, "outcome": outcome}, count)
    ages = counted.ages
    families.histogram("naiad_stream_frame_age_seconds", labels, _SECONDS, ages.counts, ages.ns / 1e9)


def _latencies(counted: VersionStatistics) -> Iterator[tuple[str, Sequence[int], int]]:
    """Name, counts and sum in nanoseconds of each latency; those of compute by execution."""
    rows = list(counted.batches.values())
    yield "request", counted.request_counts, counted.success.ns
    yield "queue", counted.queue_counts, counted.queue.ns
    yield "compute_input", counted.compute_input_counts, sum(row.compute_input.ns for row in rows)
    yield "compute_infer", counted.compute_infer_counts, sum(row.compute_infer.ns for row in rows)
    yield "compute_output", counted.compute_output_counts, sum(row.compute_output.ns for row in rows)


def _batch_counts(batches: Mapping[int, BatchStatistics]) -> list[int]:
    counts = [0] * (len(BATCH_BOUNDS) + 1)
    for size, row in batches.items():
        fits = next((index for index, bound in enumerate(BATCH_BOUNDS) if size <= bound), len(BATCH_BOUNDS))
        counts[fits] += row.compute_infer.count
    return counts
