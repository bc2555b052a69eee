"""Every metric of `/metrics`, one row each: the families and their documentation are made from it."""

from naiad.telemetry.metrics.table.experiments import EXPERIMENT_METRICS
from naiad.telemetry.metrics.table.naiad import SERVING_METRICS
from naiad.telemetry.metrics.table.process import PROCESS_METRICS
from naiad.telemetry.metrics.table.spec import COUNTER, GAUGE, HISTOGRAM, SUMMARY, MetricSpec
from naiad.telemetry.metrics.table.triton import TRITON_METRICS

__all__ = [
    "COUNTER",
    "GAUGE",
    "HISTOGRAM",
    "METRICS",
    "NAIAD_METRICS",
    "PROCESS_METRICS",
    "SUMMARY",
    "TRITON_METRICS",
    "MetricSpec",
]

NAIAD_METRICS = SERVING_METRICS + EXPERIMENT_METRICS
"""Our own: base units, names as Prometheus recommends them."""

METRICS = TRITON_METRICS + NAIAD_METRICS + PROCESS_METRICS
