"""Triton's families, filled from the counters of each version and from the machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from naiad.telemetry.metrics.families import Families, Labels
from naiad.telemetry.metrics.table import TRITON_METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from naiad.telemetry.metrics.machine import MachineReading
    from naiad.telemetry.metrics.settings import MetricsSettings
    from naiad.telemetry.metrics.view import VersionView
    from naiad.telemetry.statistics import Duration

FIRST_RESPONSE_BUCKETS_MS = (100.0, 500.0, 2_000.0, 5_000.0)
"""Triton's, unless the config's `model_metrics` names others."""

FIRST_RESPONSE_FAMILY = "nv_inference_first_response_histogram_ms"

_NOT_IN_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")


def triton_families(
    versions: Iterable[VersionView],
    machine: MachineReading,
    settings: MetricsSettings,
    now_ns: int,
) -> list[Metric]:
    """Triton's families with their samples.

    Args:
        versions: what serves.
        machine: its CPU and GPUs.
        settings: which families to show.
        now_ns: on the monotonic clock, for the quantiles of the last minute.
    """
    families = Families(TRITON_METRICS)
    for view in versions:
        renamed = {} if view.triton_version is None else {"version": str(view.triton_version)}
        labels = model_labels(view, **renamed)
        on_gpu = _with_gpu(labels, view, machine.gpu_uuids)
        _add_counts(families, on_gpu, view)
        if settings.counter_latencies:
            _add_latencies(families, on_gpu, view)
        _add_summaries(families, on_gpu, view, settings, now_ns)
        _add_cache(families, on_gpu, view, latencies=settings.counter_latencies)
        _add_first_response(families, labels, view)
        families.add("nv_inference_pending_request_count", labels, view.queued)
        families.add("nv_model_load_duration_secs", labels, view.load_seconds)
    families.add("nv_pinned_memory_pool_total_bytes", {}, 0)
    families.add("nv_pinned_memory_pool_used_bytes", {}, 0)
    _add_machine(families, machine)
    return families.filled()


def model_labels(view: VersionView, **more: str) -> Labels:
    """The labels of a version, sorted as Triton prints them; a metric tag `key` is the label `_key`."""
    tags = {"_" + _NOT_IN_A_LABEL.sub("_", key): value for key, value in view.tags.items()}
    return dict(sorted({**tags, "model": view.model, "version": str(view.version), **more}.items()))


def _with_gpu(labels: Labels, view: VersionView, uuids: Sequence[str]) -> Labels:
    """The labels with the GPU's identity, where one GPU does all the work."""
    if len(set(view.gpus)) != 1 or view.gpus[0] >= len(uuids):
        return labels
    return dict(sorted({**labels, "gpu_uuid": uuids[view.gpus[0]]}.items()))


def _add_counts(families: Families, labels: Labels, view: VersionView) -> None:
    counted = view.statistics
    families.add("nv_inference_request_success", labels, counted.success.count)
    for reason, count in counted.failures.items():
        with_reason = dict(sorted({**labels, "reason": reason.value}.items()))
        families.add("nv_inference_request_failure", with_reason, count)
    families.add("nv_inference_count", labels, counted.inference_count)
    families.add("nv_inference_exec_count", labels, counted.execution_count)


def _add_latencies(families: Families, labels: Labels, view: VersionView) -> None:
    for name, duration in _durations(view).items():
        families.add(f"nv_inference_{name}_duration_us", labels, duration.ns // 1_000)


def _add_summaries(
    families: Families, labels: Labels, view: VersionView, settings: MetricsSettings, now_ns: int
) -> None:
    summaries = view.statistics.summaries
    if summaries is None:
        return
    texts = [f"{quantile.quantile:g}" for quantile in settings.summary_quantiles]
    points = [quantile.quantile for quantile in settings.summary_quantiles]
    for name, duration in _durations(view).items():
        values = [ns / 1_000 for ns in getattr(summaries, name).read(points, now_ns)]
        quantiles = dict(zip(texts, values, strict=True))
        families.summary(
            f"nv_inference_{name}_summary_us", labels, quantiles, duration.count, duration.ns // 1_000
        )


def _durations(view: VersionView) -> dict[str, Duration]:
    counted = view.statistics
    return {
        "request": counted.success,
        "queue": counted.queue,
        "compute_input": counted.compute_input,
        "compute_infer": counted.compute_infer,
        "compute_output": counted.compute_output,
    }


def _add_cache(families: Families, labels: Labels, view: VersionView, *, latencies: bool) -> None:
    cache = view.statistics.cache
    if cache is None:
        return
    families.add("nv_cache_num_hits_per_model", labels, cache.hit.count)
    families.add("nv_cache_num_misses_per_model", labels, cache.miss.count)
    if latencies:
        families.add("nv_cache_hit_duration_per_model", labels, cache.hit.ns // 1_000)
        families.add("nv_cache_miss_duration_per_model", labels, cache.miss.ns // 1_000)


def _add_first_response(families: Families, labels: Labels, view: VersionView) -> None:
    histogram = view.statistics.first_response
    if histogram is None:
        return
    bounds = [f"{bound / 1e6:.15g}" for bound in histogram.bounds_ns]
    families.histogram(FIRST_RESPONSE_FAMILY, labels, bounds, histogram.counts, histogram.ns / 1e6)


def _add_machine(families: Families, machine: MachineReading) -> None:
    for gpu in machine.gpus:
        labels = {"gpu_uuid": gpu.uuid}
        families.add_known("nv_gpu_utilization", labels, gpu.utilization)
        families.add_known("nv_gpu_memory_total_bytes", labels, gpu.memory_total_bytes)
        families.add_known("nv_gpu_memory_used_bytes", labels, gpu.memory_used_bytes)
        families.add_known("nv_gpu_power_usage", labels, gpu.power_usage_watts)
        families.add_known("nv_gpu_power_limit", labels, gpu.power_limit_watts)
        families.add_known("nv_energy_consumption", labels, gpu.energy_joules)
    if machine.cpu is not None:
        families.add("nv_cpu_utilization", {}, machine.cpu.utilization)
        families.add("nv_cpu_memory_total_bytes", {}, machine.cpu.memory_total_bytes)
        families.add("nv_cpu_memory_used_bytes", {}, machine.cpu.memory_used_bytes)
