"""Triton's families: their names, labels, values and presence, as its own text has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.core.tensors import InferTimes
from naiad.telemetry.metrics.cpu import CpuReading
from naiad.telemetry.metrics.exposition import write
from naiad.telemetry.metrics.gpu import GpuReading
from naiad.telemetry.metrics.machine import MachineReading
from naiad.telemetry.metrics.settings import MetricsSettings, metrics_settings
from naiad.telemetry.metrics.triton import triton_families
from naiad.telemetry.statistics import CacheStatistics, FailureReason, RefusalReason, VersionStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.telemetry.metrics import VersionView

    MakeView = Callable[..., VersionView]
    RunBatch = Callable[[VersionStatistics, int], None]

MS = 1_000_000
NOTHING = MachineReading()
GPU = GpuReading("GPU-aa", 0.25, 80, 20, 300.5, 700.0, 12.0)


def lines(
    *views: VersionView,
    machine: MachineReading = NOTHING,
    settings: MetricsSettings | None = None,
) -> list[str]:
    """The samples, as text."""
    families = triton_families(views, machine, settings or MetricsSettings(), 10 * MS)
    text, _ = write(families, [], "")
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


def test_every_counter_is_there_at_zero_from_the_load_on(view: MakeView) -> None:
    """Names, labels, their order and whole numbers without a point, exactly as Triton prints them."""
    labels = '{model="m",version="1"}'
    assert lines(view()) == [
        f"nv_inference_request_success{labels} 0",
        'nv_inference_request_failure{model="m",reason="REJECTED",version="1"} 0',
        'nv_inference_request_failure{model="m",reason="CANCELED",version="1"} 0',
        'nv_inference_request_failure{model="m",reason="BACKEND",version="1"} 0',
        'nv_inference_request_failure{model="m",reason="OTHER",version="1"} 0',
        f"nv_inference_count{labels} 0",
        f"nv_inference_exec_count{labels} 0",
        f"nv_inference_request_duration_us{labels} 0",
        f"nv_inference_queue_duration_us{labels} 0",
        f"nv_inference_compute_input_duration_us{labels} 0",
        f"nv_inference_compute_infer_duration_us{labels} 0",
        f"nv_inference_compute_output_duration_us{labels} 0",
        f"nv_inference_pending_request_count{labels} 0",
        f"nv_model_load_duration_secs{labels} 1.5",
        "nv_pinned_memory_pool_total_bytes 0",
        "nv_pinned_memory_pool_used_bytes 0",
    ]


def test_the_values_are_those_of_the_requests(view: MakeView, run_batch: RunBatch) -> None:
    counted = VersionStatistics()
    run_batch(counted, 3)
    run_batch(counted, 1)
    counted.record_failure(5 * MS, FailureReason.BACKEND)
    counted.record_refused(RefusalReason.QUEUE_FULL)
    shown = lines(view(statistics=counted, queued=7))
    labels = '{model="m",version="1"}'
    for expected in (
        f"nv_inference_request_success{labels} 4",
        'nv_inference_request_failure{model="m",reason="BACKEND",version="1"} 1',
        'nv_inference_request_failure{model="m",reason="REJECTED",version="1"} 0',
        f"nv_inference_count{labels} 4",
        f"nv_inference_exec_count{labels} 2",
        f"nv_inference_request_duration_us{labels} 32000",
        f"nv_inference_queue_duration_us{labels} 8000",
        f"nv_inference_compute_input_duration_us{labels} 4000",
        f"nv_inference_compute_infer_duration_us{labels} 16000",
        f"nv_inference_compute_output_duration_us{labels} 4000",
        f"nv_inference_pending_request_count{labels} 7",
    ):
        assert expected in shown


def test_counter_latencies_false_drops_the_durations_only(view: MakeView) -> None:
    shown = "\n".join(lines(view(), settings=metrics_settings(["counter_latencies=false"])))
    assert "duration_us" not in shown
    assert "nv_inference_count" in shown


def test_summaries_have_the_quantiles_asked_for_and_count_for_ever(view: MakeView) -> None:
    settings = metrics_settings(["summary_latencies=true", "summary_quantiles=0.5:0.05,0.999:0.001"])
    counted = VersionStatistics(summaries=True)
    counted.record_success(InferTimes(0, 2 * MS, 3 * MS, 7 * MS, 8 * MS), 1)
    shown = [line for line in lines(view(statistics=counted), settings=settings) if "request_summary" in line]
    assert shown[:2] == [
        'nv_inference_request_summary_us_count{model="m",version="1"} 1',
        'nv_inference_request_summary_us_sum{model="m",version="1"} 8000',
    ]
    assert [line.partition(" ")[0] for line in shown[2:]] == [
        'nv_inference_request_summary_us{model="m",version="1",quantile="0.5"}',
        'nv_inference_request_summary_us{model="m",version="1",quantile="0.999"}',
    ]
    assert float(shown[2].split()[1]) == pytest.approx(8_000, rel=0.011)


def test_a_summary_without_requests_says_nan(view: MakeView) -> None:
    shown = lines(view(statistics=VersionStatistics(summaries=True)))
    assert 'nv_inference_queue_summary_us{model="m",version="1",quantile="0.99"} Nan' in shown


def test_the_first_response_histogram_writes_its_bounds_as_triton_does(view: MakeView) -> None:
    bounds = [round(bound * MS) for bound in (-1, 0.0, 1, 2.5)]
    counted = VersionStatistics(first_response_bounds_ns=bounds)
    counted.record_success(InferTimes(0, 0, 0, 0, 2 * MS), 1)
    counted.record_success(InferTimes(0, 0, 0, 0, 9 * MS), 1)
    name = "nv_inference_first_response_histogram_ms"
    assert [line for line in lines(view(statistics=counted)) if line.startswith(name)] == [
        f'{name}_bucket{{model="m",version="1",le="-1"}} 0',
        f'{name}_bucket{{model="m",version="1",le="0"}} 0',
        f'{name}_bucket{{model="m",version="1",le="1"}} 0',
        f'{name}_bucket{{model="m",version="1",le="2.5"}} 1',
        f'{name}_bucket{{model="m",version="1",le="+Inf"}} 2',
        f'{name}_count{{model="m",version="1"}} 2',
        f'{name}_sum{{model="m",version="1"}} 11',
    ]


def test_cache_families_are_there_only_with_a_cache(view: MakeView) -> None:
    assert not any("nv_cache" in line for line in lines(view()))
    counted = VersionStatistics()
    counted.cache = CacheStatistics()
    counted.record_cache_hit(total_ns=2 * MS, queue_ns=0, lookup_ns=1 * MS)
    labels = '{model="m",version="1"}'
    assert [line for line in lines(view(statistics=counted)) if "nv_cache" in line] == [
        f"nv_cache_num_hits_per_model{labels} 1",
        f"nv_cache_num_misses_per_model{labels} 0",
        f"nv_cache_hit_duration_per_model{labels} 1000",
        f"nv_cache_miss_duration_per_model{labels} 0",
    ]
    without = lines(view(statistics=counted), settings=metrics_settings(["counter_latencies=false"]))
    assert len([line for line in without if "nv_cache" in line]) == 2


def test_metric_tags_become_labels_that_prometheus_takes(view: MakeView) -> None:
    shown = lines(view(tags={"team": 'a"b\\', "cost-centre": "7"}))
    assert 'nv_inference_count{_cost_centre="7",_team="a\\"b\\\\",model="m",version="1"} 0' in shown


def test_a_gpu_is_named_where_it_does_all_the_work(view: MakeView) -> None:
    """Several GPUs share the counters of a version, which then name none of them."""
    machine = MachineReading(gpu_uuids=("GPU-aa", "GPU-bb"))
    one = lines(view(gpus=(1,)), machine=machine)
    assert 'nv_inference_count{gpu_uuid="GPU-bb",model="m",version="1"} 0' in one
    assert 'nv_inference_pending_request_count{model="m",version="1"} 0' in one
    for gpus in ((0, 1), (5,), ()):
        assert 'nv_inference_count{model="m",version="1"} 0' in lines(view(gpus=gpus), machine=machine)


def test_the_machine_is_shown_as_far_as_it_is_known() -> None:
    silent = GpuReading("GPU-bb", None, None, None, None, None, None)
    shown = lines(machine=MachineReading(CpuReading(0.5, 1_000, 400), (GPU, silent)))
    assert shown[2:] == [
        'nv_gpu_utilization{gpu_uuid="GPU-aa"} 0.25',
        'nv_gpu_memory_total_bytes{gpu_uuid="GPU-aa"} 80',
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-aa"} 20',
        'nv_gpu_power_usage{gpu_uuid="GPU-aa"} 300.5',
        'nv_gpu_power_limit{gpu_uuid="GPU-aa"} 700',
        'nv_energy_consumption{gpu_uuid="GPU-aa"} 12',
        "nv_cpu_utilization 0.5",
        "nv_cpu_memory_total_bytes 1000",
        "nv_cpu_memory_used_bytes 400",
    ]
