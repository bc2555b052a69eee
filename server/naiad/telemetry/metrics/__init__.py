"""`/metrics`: Triton's families as Triton prints them, and ours beside them."""

from naiad.telemetry.metrics.settings import MetricsSettings, metrics_settings
from naiad.telemetry.metrics.table import METRICS, MetricSpec
from naiad.telemetry.metrics.view import (
    EngineView,
    ModelState,
    RoomView,
    ServerView,
    StreamsView,
    VersionState,
    VersionView,
)

__all__ = [
    "METRICS",
    "EngineView",
    "MetricSpec",
    "MetricsSettings",
    "ModelState",
    "RoomView",
    "ServerView",
    "StreamsView",
    "VersionState",
    "VersionView",
    "metrics_settings",
]
