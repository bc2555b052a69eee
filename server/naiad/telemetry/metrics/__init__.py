"""`/metrics`: Triton's families as Triton prints them, and ours beside them."""

from naiad.telemetry.metrics.settings import MetricsSettings, metrics_settings
from naiad.telemetry.metrics.table import METRICS, MetricSpec
from naiad.telemetry.metrics.view import EngineView, ModelState, ServerView, VersionState, VersionView

__all__ = [
    "METRICS",
    "EngineView",
    "MetricSpec",
    "MetricsSettings",
    "ModelState",
    "ServerView",
    "VersionState",
    "VersionView",
    "metrics_settings",
]
