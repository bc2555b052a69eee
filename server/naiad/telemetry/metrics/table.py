"""Every metric of `/metrics`, one row each: the families and their documentation are made from it."""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM, SUMMARY = "counter", "gauge", "histogram", "summary"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One family: the name in the text format, its type, the labels in order, the HELP text, and a note.

    `condition` says what must be so for the family to be there; empty for always.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    note: str = ""
    condition: str = ""

    @property
    def is_triton(self) -> bool:
        """Whether it is one of Triton's."""
        return self.name.startswith("nv_")


_MODEL = ("model", "version")
_LATENCIES = "counter_latencies=true (the default)"
_SUMMARIES = "summary_latencies=true"
_CACHE = "the model has a response cache"
_CPU = "--allow-cpu-metrics (the default), Linux"
_STREAMS = "a stream of frames was opened"
_ENGINE = "the config asks for TensorRT, and there is a GPU"
_GPU = "--allow-gpu-metrics (the default) and a GPU that CUDA sees"

TRITON_METRICS = (
    MetricSpec(
        "nv_inference_request_success",
        COUNTER,
        _MODEL,
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
        _MODEL,
        "Number of inferences performed (does not include cached requests)",
        "batch items: a request of 8 counts 8",
    ),
    MetricSpec(
        "nv_inference_exec_count",
        COUNTER,
        _MODEL,
        "Number of model executions performed (does not include cached requests)",
        "batches",
    ),
    MetricSpec(
        "nv_inference_request_duration_us",
        COUNTER,
        _MODEL,
        "Cumulative inference request duration in microseconds (includes cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_queue_duration_us",
        COUNTER,
        _MODEL,
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_compute_input_duration_us",
        COUNTER,
        _MODEL,
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        "once for each request of a batch, as the two below",
        _LATENCIES,
    ),
    MetricSpec(
        "nv_inference_compute_infer_duration_us",
        COUNTER,
        _MODEL,
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_compute_output_duration_us",
        COUNTER,
        _MODEL,
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        condition=_LATENCIES,
    ),
    MetricSpec(
        "nv_inference_request_summary_us",
        SUMMARY,
        _MODEL,
        "Summary of inference request duration in microseconds (includes cached requests)",
        "quantiles of the last minute, NaN when there was no request in it",
        _SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_queue_summary_us",
        SUMMARY,
        _MODEL,
        "Summary of inference queuing duration in microseconds (includes cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_compute_input_summary_us",
        SUMMARY,
        _MODEL,
        "Summary of compute input duration in microseconds (does not include cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_compute_infer_summary_us",
        SUMMARY,
        _MODEL,
        "Summary of compute inference duration in microseconds (does not include cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec(
        "nv_inference_compute_output_summary_us",
        SUMMARY,
        _MODEL,
        "Summary of inference compute output duration in microseconds (does not include cached requests)",
        condition=_SUMMARIES,
    ),
    MetricSpec("nv_cache_num_hits_per_model", COUNTER, _MODEL, "Number of cache hits per model", "", _CACHE),
    MetricSpec(
        "nv_cache_num_misses_per_model", COUNTER, _MODEL, "Number of cache misses per model", "", _CACHE
    ),
    MetricSpec(
        "nv_cache_hit_duration_per_model",
        COUNTER,
        _MODEL,
        "Total cache hit duration per model, in microseconds",
        condition=f"{_CACHE}, {_LATENCIES}",
    ),
    MetricSpec(
        "nv_cache_miss_duration_per_model",
        COUNTER,
        _MODEL,
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        condition=f"{_CACHE}, {_LATENCIES}",
    ),
    MetricSpec(
        "nv_inference_pending_request_count",
        GAUGE,
        _MODEL,
        "Instantaneous number of pending requests awaiting execution per-model.",
    ),
    MetricSpec(
        "nv_inference_first_response_histogram_ms",
        HISTOGRAM,
        _MODEL,
        "Duration from request to first response in milliseconds",
        "buckets 100, 500, 2000 and 5000 unless the config's `model_metrics` names others",
        "histogram_latencies=true",
    ),
    MetricSpec(
        "nv_model_load_duration_secs", GAUGE, _MODEL, "Model load time in seconds", "warm-up included"
    ),
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

NAIAD_METRICS = (
    MetricSpec(
        "naiad_requests_total",
        COUNTER,
        ("model", "version", "outcome"),
        "Accepted inference requests that have ended, by how they ended.",
        "outcome `success`, `expired` (its time ran out in the queue), `cancelled` (its caller left), "
        "`failed` (the run) or `other`",
    ),
    MetricSpec(
        "naiad_requests_refused_total",
        COUNTER,
        ("model", "version", "reason"),
        "Inference requests that were not accepted.",
        "reason `queue_full`, `stopping` or `deadline` (it could not have been answered in time, see "
        "scheduling.md); Triton counts these nowhere",
    ),
    MetricSpec(
        "naiad_wasted_compute_seconds_total",
        COUNTER,
        _MODEL,
        "Time of executions whose result nobody waited for any more when they ended.",
        "of a batch the share of the batch items whose callers had left; requests of sequences are not "
        "counted, because their states live on",
    ),
    MetricSpec(
        "naiad_wasted_batch_items_total",
        COUNTER,
        _MODEL,
        "Batch items whose callers had left when their execution ended.",
    ),
    MetricSpec(
        "naiad_terminated_runs_total",
        COUNTER,
        _MODEL,
        "Executions that were ended before their time, because all their callers had left.",
    ),
    MetricSpec(
        "naiad_request_duration_seconds",
        HISTOGRAM,
        _MODEL,
        "Time from a request's entry into the queue to its outputs, of requests that succeeded.",
    ),
    MetricSpec(
        "naiad_queue_duration_seconds",
        HISTOGRAM,
        _MODEL,
        "Time a request waited for an instance, of requests that succeeded.",
    ),
    MetricSpec(
        "naiad_compute_input_duration_seconds",
        HISTOGRAM,
        _MODEL,
        "Time to place the inputs of one execution.",
        "once a batch, as the two below",
    ),
    MetricSpec(
        "naiad_compute_infer_duration_seconds",
        HISTOGRAM,
        _MODEL,
        "Time of one execution in the engine.",
    ),
    MetricSpec(
        "naiad_compute_output_duration_seconds",
        HISTOGRAM,
        _MODEL,
        "Time to split the outputs of one execution.",
    ),
    MetricSpec(
        "naiad_batch_size",
        HISTOGRAM,
        _MODEL,
        "Batch items of one execution.",
        "its sum is the batch items, its count the executions",
    ),
    MetricSpec(
        "naiad_batches_total",
        COUNTER,
        ("model", "version", "reason"),
        "Executions by why their batch was formed.",
        "reason as `naiad_batch_reason` of an explained request, see scheduling.md",
    ),
    MetricSpec(
        "naiad_padding_rows_total",
        COUNTER,
        _MODEL,
        "Rows of executions that no request filled.",
        "up to a GPU's batch bucket, or of a sequence model's idle rows",
    ),
    MetricSpec(
        "naiad_inline_runs_total",
        COUNTER,
        _MODEL,
        "Executions on the event loop's thread.",
        "of lone requests of models that run shortly (`--max-inline-run-us`)",
    ),
    MetricSpec("naiad_queue_size", GAUGE, _MODEL, "Requests that wait for an instance."),
    MetricSpec("naiad_instances", GAUGE, _MODEL, "Instances of the model version."),
    MetricSpec("naiad_instances_busy", GAUGE, _MODEL, "Instances that run a batch now."),
    MetricSpec(
        "naiad_streams",
        GAUGE,
        ("model",),
        "Streams of frames that are open.",
        "of StreamAnalyze `model` is the detector",
        _STREAMS,
    ),
    MetricSpec(
        "naiad_stream_frames_total",
        COUNTER,
        ("model", "outcome"),
        "Frames of streams by what became of them.",
        "outcome `answered`, `failed`, `superseded` (a newer one came), `too_old` (these two were dropped, "
        "as the stream's contract says) or `abandoned` (the client left)",
        _STREAMS,
    ),
    MetricSpec(
        "naiad_stream_frame_age_seconds",
        HISTOGRAM,
        ("model",),
        "Time from the arrival of a frame of a stream to its result.",
        "of answered frames",
        _STREAMS,
    ),
    MetricSpec(
        "naiad_stream_frames_at_work",
        GAUGE,
        _MODEL,
        "Frames of streams that are worked on now.",
        condition=_STREAMS,
    ),
    MetricSpec(
        "naiad_stream_room",
        GAUGE,
        _MODEL,
        "Frames of streams that are worked on at once at most.",
        "the least that keeps the version busy, as measured",
        _STREAMS,
    ),
    MetricSpec(
        "naiad_model_ready",
        GAUGE,
        _MODEL,
        "1 if the model version answers, 0 if it should and does not.",
        "`version` is empty for a model whose folder or config could not be read",
    ),
    MetricSpec(
        "naiad_model_load_failures_total",
        COUNTER,
        ("model",),
        "Loads of the model that failed.",
    ),
    MetricSpec(
        "naiad_model_change_refused",
        GAUGE,
        ("model",),
        "1 if what lies in the repository could not be loaded and what served before goes on.",
        "the next start of the server would fail: the log says why",
    ),
    MetricSpec(
        "naiad_model_load_duration_seconds",
        GAUGE,
        _MODEL,
        "Time it took to load and warm the model version.",
    ),
    MetricSpec(
        "naiad_tensorrt_engine_state",
        GAUGE,
        ("model", "version", "state"),
        "1 for the state that the version's TensorRT engine is in, else 0.",
        "state `waiting`, `building`, `verifying`, `swapped` (it serves), `failed` (CUDA serves) or "
        "`cancelled`",
        _ENGINE,
    ),
    MetricSpec(
        "naiad_tensorrt_engine_duration_seconds",
        GAUGE,
        _MODEL,
        "Time from asking for the version's TensorRT engine until it served or failed, or until now.",
        "",
        _ENGINE,
    ),
    MetricSpec(
        "naiad_build_info",
        GAUGE,
        ("version", "python_version"),
        "Always 1; its labels say what runs.",
    ),
    MetricSpec("naiad_start_time_seconds", GAUGE, (), "When the server began to serve, in Unix time."),
)
"""Our own: base units, names as Prometheus recommends them."""

_PROCFS = "Linux"
PROCESS_METRICS = (
    MetricSpec("process_virtual_memory_bytes", GAUGE, (), "Virtual memory size in bytes.", "", _PROCFS),
    MetricSpec("process_resident_memory_bytes", GAUGE, (), "Resident memory size in bytes.", "", _PROCFS),
    MetricSpec(
        "process_start_time_seconds",
        GAUGE,
        (),
        "Start time of the process since unix epoch in seconds.",
        "",
        _PROCFS,
    ),
    MetricSpec(
        "process_cpu_seconds_total",
        COUNTER,
        (),
        "Total user and system CPU time spent in seconds.",
        "",
        _PROCFS,
    ),
    MetricSpec("process_open_fds", GAUGE, (), "Number of open file descriptors.", "", _PROCFS),
    MetricSpec("process_max_fds", GAUGE, (), "Maximum number of open file descriptors.", "", _PROCFS),
)
"""What prometheus_client's ProcessCollector tells of the process."""

METRICS = TRITON_METRICS + NAIAD_METRICS + PROCESS_METRICS
