"""The rows of our own families on experiments, their shadows, and the process aside."""

from __future__ import annotations

from naiad.telemetry.metrics.table.spec import COUNTER, GAUGE, MODEL, SUMMARY, MetricSpec

_EXPERIMENT = "the model has an experiment"
_DETECTOR = "the experiment's answers were looked into, a detector"
_EMBEDDER = "the experiment's answers were looked into, an embedder"
_GUARD = "the experiment has a guard"
_SHADOW = "the experiment has a shadow"
_ASIDE = "a model has or had an experiment"

EXPERIMENT_METRICS = (
    MetricSpec(
        "naiad_experiment_requests_total",
        COUNTER,
        (*MODEL, "outcome"),
        "Requests to the versions of an experiment that have ended, by how they ended.",
        "outcome `success`, `failed` (an error, a passed deadline or a full queue), `callers_fault` or "
        "`cancelled` (these two say nothing about the version); begins anew with the experiment's file, "
        "with the version and when it is resumed, as all of its figures",
        _EXPERIMENT,
    ),
    MetricSpec(
        "naiad_experiment_latency_seconds",
        SUMMARY,
        MODEL,
        "Time from a request's arrival at a version of an experiment to its answer.",
        "of answered requests since the experiment began, each quantile within 1 % of a value of that rank; "
        "it has no sum",
        _EXPERIMENT,
    ),
    MetricSpec(
        "naiad_experiment_share",
        GAUGE,
        MODEL,
        "Part of the requests that the version gets now, 0 to 1.",
        "callers whose keys are listed come on top; 0 for what is rolled back, not ready or only shadowed",
        _EXPERIMENT,
    ),
    MetricSpec(
        "naiad_experiment_empty_ratio",
        GAUGE,
        MODEL,
        "Answers without any face, of those that were looked into.",
        condition=_DETECTOR,
    ),
    MetricSpec(
        "naiad_experiment_faces",
        GAUGE,
        MODEL,
        "Faces a picture, the mean of the answers that were looked into.",
        condition=_DETECTOR,
    ),
    MetricSpec(
        "naiad_experiment_score",
        GAUGE,
        MODEL,
        "Best score of a picture with a face, the mean of the answers that were looked into.",
        condition=_DETECTOR,
    ),
    MetricSpec(
        "naiad_experiment_norm",
        GAUGE,
        MODEL,
        "Length of raw vectors, the geometric mean of the answers that were looked into.",
        condition=_EMBEDDER,
    ),
    MetricSpec(
        "naiad_experiment_verdict",
        GAUGE,
        (*MODEL, "verdict"),
        "1 for what the guard says of the candidate, else 0.",
        "verdict `collecting`, `holding`, `better`, `roll_back` or `promote`, also in a dry run and once it "
        "was decided",
        _GUARD,
    ),
    MetricSpec(
        "naiad_experiment_decisions_total",
        COUNTER,
        ("model", "decision", "by"),
        "Decisions on the model's candidates since the server's start.",
        "decision `roll_back`, `promote` or `resume`, by `guard` or `person`; those of a dry run are not "
        "counted",
        _EXPERIMENT,
    ),
    MetricSpec(
        "naiad_shadow_requests_total",
        COUNTER,
        (*MODEL, "outcome"),
        "Requests to the baseline that were to be copied to the shadowed version, by what became of them.",
        "outcome `compared`, `failed` (the shadowed version) or `skipped` (for want of budget or room, or "
        "they cannot be copied)",
        _SHADOW,
    ),
    MetricSpec(
        "naiad_shadow_missed_ratio",
        GAUGE,
        MODEL,
        "Part of the baseline's faces that the shadowed version does not find, the mean of the requests.",
        condition=f"{_SHADOW}, a detector",
    ),
    MetricSpec(
        "naiad_shadow_extra_ratio",
        GAUGE,
        MODEL,
        "Part of the shadowed version's faces that the baseline does not find, the mean of the requests.",
        condition=f"{_SHADOW}, a detector",
    ),
    MetricSpec(
        "naiad_shadow_cosine",
        GAUGE,
        MODEL,
        "Cosine of the two versions' vectors, the mean of the requests.",
        condition=f"{_SHADOW}, an embedder",
    ),
    MetricSpec(
        "naiad_shadow_mismatch_ratio",
        GAUGE,
        MODEL,
        "Part of the values that differ by more than the tolerance, the mean of the requests.",
        condition=f"{_SHADOW}, neither detector nor embedder",
    ),
    MetricSpec(
        "naiad_aside_cpu_seconds_total",
        COUNTER,
        (),
        "CPU time of the process aside, which runs shadows and looks into answers.",
        "not in `process_cpu_seconds_total`",
        _ASIDE,
    ),
    MetricSpec(
        "naiad_aside_starts_total",
        COUNTER,
        (),
        "Starts of the process aside.",
        "each but the first is after an end before its time: the log says why",
        _ASIDE,
    ),
    MetricSpec(
        "naiad_aside_pending",
        GAUGE,
        (),
        "Jobs that wait for the process aside or that it works on.",
        "at most `--shadow-max-pending`",
        _ASIDE,
    ),
)
"""What is learnt about versions, and what it costs."""
