"""The rows of Triton's families."""

from __future__ import annotations

from naiad.telemetry.metrics.table.spec import COUNTER, GAUGE, HISTOGRAM, MODEL, SUMMARY, MetricSpec

_LATENCIES = "counter_latencies=true (the default)"
_SUMMARIES = "summary_latencies=true"
_CACHE = "the model has a response cache"
_CPU = "--allow-cpu-metrics (the default), Linux"
_GPU = "--allow-gpu-metrics (the default) and a GPU that CUDA sees"

TRITON_METRICS = (
    MetricSpec(
        "nv_inference_request_success",
        COUNTER,
        MODEL,
        "Number of successful inference requests, all batch sizes",
    ),
    MetricSpec(
        "nv_inference_request_failure",
        COUNTER,
        ("model", "reason", "version"),
        "Number of failed inference requests, all batch sizes",
        "`REJECTED`: its time ran out in the queue; `CANCELED`: its caller left; `BACKEND`: the run failed; "
        "`OTHER`. Requests that a full queue refused are none of these: see `naiad_requests_refused_total`",
    ),
    MetricSpec(
        "nv_inference_count",
        COUNTER,
        MODEL,
        "Number of inferences performed (does not include cached requests)",
        "batch items: a request of 8 counts 8",
    ),
    MetricSpec(
        "nv_inference_exec_count",
        COUNTER,
        MODEL,
        "Number of model executions performed (does not include cached requests)",
        "batches",
    ),
    MetricSpec(
        "nv_inference_request_duration_us",
        COUNTER,
        MODEL,
        "Cumulative inference request duration in microseconds (includes cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_queue_duration_us",
        COUNTER,
        MODEL,
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_compute_input_duration_us",
        COUNTER,
        MODEL,
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        "once for each request of a batch, as the two below",
        _LATENCIES,
    ),
    MetricSpec(
        "nv_inference_compute_infer_duration_us",
        COUNTER,
        MODEL,
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_compute_output_duration_us",
        COUNTER,
        MODEL,
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_request_summary_us",
        SUMMARY,
        MODEL,
        "Summary of inference request duration in microseconds (includes cached requests)",
        "quantiles of the last minute, NaN when there was no request in it",
        _SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_queue_summary_us",
        SUMMARY,
        MODEL,
        "Summary of inference queuing duration in microseconds (includes cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_compute_input_summary_us",
        SUMMARY,
        MODEL,
        "Summary of compute input duration in microseconds (does not include cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_compute_infer_summary_us",
        SUMMARY,
        MODEL,
        "Summary of compute inference duration in microseconds (does not include cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_compute_output_summary_us",
        SUMMARY,
        MODEL,
        "Summary of inference compute output duration in microseconds (does not include cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec("nv_cache_num_hits_per_model", COUNTER, MODEL, "Number of cache hits per model", "", _CACHE),
    MetricSpec(
        "nv_cache_num_misses_per_model", COUNTER, MODEL, "Number of cache misses per model", "", _CACHE
    ),
    MetricSpec(
        "nv_cache_hit_duration_per_model",
        COUNTER,
        MODEL,
        "Total cache hit duration per model, in microseconds",
        condition=f"{_CACHE}, {_LATENCIES}",
    ),
    MetricSpec(
        "nv_cache_miss_duration_per_model",
        COUNTER,
        MODEL,
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        condition=f"{_CACHE}, {_LATENCIES}",
    ),
    MetricSpec(
        "nv_inference_pending_request_count",
        GAUGE,
        MODEL,
        "Instantaneous number of pending requests awaiting execution per-model.",
    ),
    MetricSpec(
        "nv_inference_first_response_histogram_ms",
        HISTOGRAM,
        MODEL,
        "Duration from request to first response in milliseconds",
        "buckets 100, 500, 2000 and 5000 unless the config's `model_metrics` names others",
        "histogram_latencies=true",
    ),
    MetricSpec("nv_model_load_duration_secs", GAUGE, MODEL, "Model load time in seconds", "warm-up included"),
    MetricSpec(
        "nv_pinned_memory_pool_total_bytes",
        GAUGE,
        (),
        "Pinned memory pool total memory size, in bytes",
        "always 0: there is no such pool",
    ),
    MetricSpec(
        "nv_pinned_memory_pool_used_bytes",
        GAUGE,
        (),
        "Pinned memory pool used memory size, in bytes",
        "always 0: there is no such pool",
    ),
    MetricSpec("nv_gpu_utilization", GAUGE, ("gpu_uuid",), "GPU utilization rate [0.0 - 1.0)", "", _GPU),
    MetricSpec("nv_gpu_memory_total_bytes", GAUGE, ("gpu_uuid",), "GPU total memory, in bytes", "", _GPU),
    MetricSpec("nv_gpu_memory_used_bytes", GAUGE, ("gpu_uuid",), "GPU used memory, in bytes", "", _GPU),
    MetricSpec("nv_gpu_power_usage", GAUGE, ("gpu_uuid",), "GPU power usage in watts", "", _GPU),
    MetricSpec("nv_gpu_power_limit", GAUGE, ("gpu_uuid",), "GPU power management limit in watts", "", _GPU),
    MetricSpec(
        "nv_energy_consumption",
        COUNTER,
        ("gpu_uuid",),
        "GPU energy consumption in joules since the Triton Server started",
        "since this server started",
        _GPU,
    ),
    MetricSpec(
        "nv_cpu_utilization",
        GAUGE,
        (),
        "CPU utilization rate [0.0 - 1.0]",
        "of the whole machine, since the scrape before",
        _CPU,
    ),
    MetricSpec(
        "nv_cpu_memory_total_bytes",
        GAUGE,
        (),
        "CPU total memory (RAM), in bytes",
        "of the whole machine",
        _CPU,
    ),
    MetricSpec(
        "nv_cpu_memory_used_bytes",
        GAUGE,
        (),
        "CPU used memory (RAM), in bytes",
        "of the whole machine: total less available",
        _CPU,
    ),
)
"""Triton's families, in the order, with the names, types, labels and texts of its own."""
