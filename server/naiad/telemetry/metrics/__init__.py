"""`/metrics`: Triton's families as Triton prints them, and ours beside them."""

from naiad.telemetry.metrics.settings import MetricsSettings, metrics_settings
from naiad.telemetry.metrics.table import METRICS, MetricSpec
from naiad.telemetry.metrics.view import (
    ArmView,
    AsideView,
    EngineView,
    ExperimentView,
    ModelState,
    RoomView,
    ServerView,
    ShadowView,
    StreamsView,
    VersionState,
    VersionView,
)

__all__ = [
    "METRICS",
    "ArmView",
    "AsideView",
    "EngineView",
    "ExperimentView",
    "MetricSpec",
    "MetricsSettings",
    "ModelState",
    "RoomView",
    "ServerView",
    "ShadowView",
    "StreamsView",
    "VersionState",
    "VersionView",
    "metrics_settings",
]
