"""Traces of single requests: which are traced, what each one keeps, and where it is written.

`TraceManager` is the loop's side: settings, sampling, one `RequestTrace` a traced request. Finished traces go
to one thread (`TraceWriter`), which writes Triton's JSON files or OpenTelemetry spans.
"""

from __future__ import annotations

from naiad.telemetry.tracing.flags import parse_trace_config
from naiad.telemetry.tracing.manager import TraceManager
from naiad.telemetry.tracing.request import FrontEnd, RequestTrace
from naiad.telemetry.tracing.settings import TraceLevel, TraceMode, TraceSettings

__all__ = [
    "FrontEnd",
    "RequestTrace",
    "TraceLevel",
    "TraceManager",
    "TraceMode",
    "TraceSettings",
    "parse_trace_config",
]
