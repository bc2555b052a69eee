"""Settings of logs, metrics and traces."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from naiad.config.settings.kinds import Flag, Port, Positive, SettingsGroup, Verbosity

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  # Triton's default


class LogSettings(SettingsGroup):
    """Logs."""

    TITLE: ClassVar[str] = "Logs"

    log_verbose: Verbosity = Field(0, description="Above 0: debug events too.")
    log_info: Flag = Field(True, description="Write informational events.")
    log_warning: Flag = Field(True, description="Write warnings.")
    log_error: Flag = Field(True, description="Write errors.")
    log_format: Literal["text", "json", "default", "ISO8601"] = Field(
        "text",
        description="How log lines are written: text or json; default and ISO8601 are text with Triton's "
        "time stamps.",
    )
    log_file: str = Field("", description="Write the log to this file instead of standard error.")


def _http_address(data: dict[str, Any]) -> str:
    return str(data.get("http_address", _ANY_ADDRESS))


class MetricsSettings(SettingsGroup):
    """Metrics."""

    TITLE: ClassVar[str] = "Metrics"

    allow_metrics: Flag = Field(True, description="Serve metrics for Prometheus.")
    allow_cpu_metrics: Flag = Field(True, description="Metrics of the CPU and the memory.")
    allow_gpu_metrics: Flag = Field(True, description="Metrics of the GPUs.")
    metrics_address: str = Field(
        default_factory=_http_address,
        description="The address that metrics listen on; by default that of HTTP.",
    )
    metrics_port: Port = Field(8002, description="The port that metrics listen on; 0 takes a free one.")
    metrics_interval_ms: Positive = Field(
        2_000, description="How often CPU and GPU metrics are taken, in milliseconds."
    )
    metrics_config: tuple[str, ...] = Field(
        (),
        description="KEY=VALUE: counter_latencies, summary_latencies, histogram_latencies or "
        "summary_quantiles; may be given several times, in the variable one a line.",
    )


class TraceSettings(SettingsGroup):
    """Traces."""

    TITLE: ClassVar[str] = "Traces"

    trace_config: tuple[str, ...] = Field(
        (),
        description="[MODE,]KEY=VALUE: level, rate, count, mode; triton,file and triton,log-frequency; "
        "opentelemetry,url and others; may be given several times, in the variable one a line.",
    )
