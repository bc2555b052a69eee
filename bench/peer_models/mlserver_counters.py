"""What the models of this process have counted; apart, for MLServer imports a runtime anew for each model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counter:
    """Of one model: requests, and runs of the session."""

    inferences: int = 0
    executions: int = 0


COUNTERS: dict[str, Counter] = {}
"""By model name."""
