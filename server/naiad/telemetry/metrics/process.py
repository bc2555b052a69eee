"""The process itself, as prometheus_client tells it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric


def process_families() -> Iterable[Metric]:
    """CPU time, memory and files of this process; nothing where there is no /proc. Reads /proc: may block."""
    return _collector().collect()


@cache
def _collector() -> ProcessCollector:
    # A registry of its own: the library's is global, and anyone may register there.
    return ProcessCollector(registry=CollectorRegistry())
