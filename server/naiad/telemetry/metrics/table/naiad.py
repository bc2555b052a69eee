"""The rows of our own families on serving; those on experiments are in `experiments`."""

from __future__ import annotations

from naiad.telemetry.metrics.table.spec import COUNTER, GAUGE, HISTOGRAM, MODEL, MetricSpec

_STREAMS = "a stream of frames was opened"
_ENGINE = "the config asks for TensorRT, and there is a GPU"

SERVING_METRICS = (
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
        MODEL,
        "Time of executions whose result nobody waited for any more when they ended.",
        "of a batch the share of the batch items whose callers had left; requests of sequences are not "
        "counted, because their states live on",
    ),
    MetricSpec(
        "naiad_wasted_batch_items_total",
        COUNTER,
        MODEL,
        "Batch items whose callers had left when their execution ended.",
    ),
    MetricSpec(
        "naiad_terminated_runs_total",
        COUNTER,
        MODEL,
        "Executions that were ended before their time, because all their callers had left.",
    ),
    MetricSpec(
        "naiad_request_duration_seconds",
        HISTOGRAM,
        MODEL,
        "Time from a request's entry into the queue to its outputs, of requests that succeeded.",
    ),
    MetricSpec(
        "naiad_queue_duration_seconds",
        HISTOGRAM,
        MODEL,
        "Time a request waited for an instance, of requests that succeeded.",
    ),
    MetricSpec(
        "naiad_compute_input_duration_seconds",
        HISTOGRAM,
        MODEL,
        "Time to place the inputs of one execution.",
        "once a batch, as the two below",
    ),
    MetricSpec(
        "naiad_compute_infer_duration_seconds",
        HISTOGRAM,
        MODEL,
        "Time of one execution in the engine.",
    ),
    MetricSpec(
        "naiad_compute_output_duration_seconds",
        HISTOGRAM,
        MODEL,
        "Time to split the outputs of one execution.",
    ),
    MetricSpec(
        "naiad_batch_size",
        HISTOGRAM,
        MODEL,
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
        MODEL,
        "Rows of executions that no request filled.",
        "up to a GPU's batch bucket, or of a sequence model's idle rows",
    ),
    MetricSpec(
        "naiad_inline_runs_total",
        COUNTER,
        MODEL,
        "Executions on the event loop's thread.",
        "of lone requests of models that run shortly (`--max-inline-run-us`)",
    ),
    MetricSpec("naiad_queue_size", GAUGE, MODEL, "Requests that wait for an instance."),
    MetricSpec("naiad_instances", GAUGE, MODEL, "Instances of the model version."),
    MetricSpec("naiad_instances_busy", GAUGE, MODEL, "Instances that run a batch now."),
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
        MODEL,
        "Frames of streams that are worked on now.",
        condition=_STREAMS,
    ),
    MetricSpec(
        "naiad_stream_room",
        GAUGE,
        MODEL,
        "Frames of streams that are worked on at once at most.",
        "the least that keeps the version busy, as measured",
        _STREAMS,
    ),
    MetricSpec(
        "naiad_model_ready",
        GAUGE,
        MODEL,
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
        MODEL,
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
        MODEL,
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
