"""The rows of the process's families."""

from __future__ import annotations

from naiad.telemetry.metrics.table.spec import COUNTER, GAUGE, MetricSpec

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
