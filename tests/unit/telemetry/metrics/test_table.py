"""The table of metrics: names as Prometheus recommends them, and the page that is made of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from naiad.telemetry.metrics import METRICS, MetricSpec
from naiad.telemetry.metrics.table import COUNTER, GAUGE, HISTOGRAM, NAIAD_METRICS, SUMMARY, TRITON_METRICS

ROOT = Path(__file__).resolve().parents[4]
BASE_UNITS = {"seconds", "bytes", "joules", "watts", "volts", "ratio"}
OTHER_UNITS = {
    *(
        "ns",
        "us",
        "ms",
        "secs",
        "sec",
        "minutes",
        "hours",
        "days",
        "milliseconds",
        "microseconds",
        "nanoseconds",
    ),
    *("kb", "mb", "gb", "kib", "mib", "gib", "kilobytes", "megabytes", "percent", "milliwatts"),
}
UNITLESS = {
    "naiad_batch_size",
    "naiad_padding_rows_total",
    "naiad_inline_runs_total",
    "naiad_queue_size",
    "naiad_instances",
    "naiad_instances_busy",
    "naiad_model_change_refused",
    "naiad_model_ready",
    "naiad_streams",
    "naiad_stream_frames_at_work",
    "naiad_stream_room",
    "naiad_tensorrt_engine_state",
    "naiad_experiment_share",
    "naiad_experiment_faces",
    "naiad_experiment_score",
    "naiad_experiment_norm",
    "naiad_experiment_verdict",
    "naiad_shadow_cosine",
    "naiad_aside_pending",
    "naiad_build_info",
}


@pytest.mark.parametrize("spec", NAIAD_METRICS, ids=lambda spec: spec.name)
def test_our_names_pass_what_promtool_checks(spec: MetricSpec) -> None:
    """The rules of `promtool check metrics`, and that each unit is a base unit."""
    words = spec.name.split("_")
    assert re.fullmatch(r"naiad(_[a-z]+)+", spec.name)
    assert spec.help.endswith(".")
    assert (words[-1] == "total") == (spec.type == COUNTER)
    assert not {*words} & {COUNTER, GAUGE, HISTOGRAM, SUMMARY, "bucket", "count", "sum"}
    assert not {*words} & OTHER_UNITS
    unit = words[-1] if spec.type != COUNTER else ""
    assert unit in BASE_UNITS or spec.type == COUNTER or spec.name in UNITLESS
    assert not {"le", "quantile", "job", "instance"} & {*spec.labels}
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) for label in spec.labels)


def test_names_are_unique_and_tritons_are_apart() -> None:
    names = [spec.name for spec in METRICS]
    assert len(set(names)) == len(names)
    assert all(spec.is_triton for spec in TRITON_METRICS)
    assert not any(spec.is_triton for spec in NAIAD_METRICS)


def metrics_table(specs: tuple[MetricSpec, ...]) -> str:
    """The rows as the page has them."""
    rows = ["| metric | type | labels | meaning | there with |", "|---|---|---|---|---|"]
    for spec in specs:
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        meaning = spec.help.removesuffix(".") + (f"; {spec.note}" if spec.note else "")
        rows.append(f"| `{spec.name}` | {spec.type} | {labels} | {meaning} | {spec.condition} |")
    return "\n".join(rows)


@pytest.mark.parametrize("group", ["triton", "naiad", "process"])
def test_the_page_lists_every_metric_as_it_is(group: str) -> None:
    """If it does not, the table of the failure is what belongs between the markers of docs/metrics.md."""
    prefix = {"triton": "nv_", "naiad": "naiad_", "process": "process_"}[group]
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {group}: .*?-->\n(.*?)\n?<!-- /{group} -->", page, re.DOTALL)
    assert found is not None
    assert found.group(1) == metrics_table(tuple(spec for spec in METRICS if spec.name.startswith(prefix)))
