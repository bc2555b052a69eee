"""How much the process aside may take, and what it has done."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.core.tensors import ModelKey

DEFAULT_BUDGET_CPUS = 0.5
_QUOTA_SHARE = 0.05
_LEAST_BUDGET_CPUS = 0.02
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class AsideSettings:
    """The limits of the process aside.

    `budget_cpus` is the CPU time that it may take, in CPUs, whatever it does; less while the server leaves
    less of its `cpus`. `max_pending` jobs with `max_pending_bytes` of tensors may wait, a quarter of them
    only looks into answers; a lone job may have up to `max_arena_bytes`. `max_jobs_per_s` bounds what the
    serving process does for it. A job may take `timeout_s` of CPU time, or be without any for `stall_s`.
    After a crash it is started again, first after the one time of `backoff_s`, doubled up to the other;
    `max_kills` crashes in a row end a candidate. `auto_complete` and `default_max_batch_size` are those of
    the server. Without `is_idle` it competes with the server for the CPUs, and spares it nothing: tests do
    so, which cannot wait until a machine has nothing else to do.
    """

    budget_cpus: float = DEFAULT_BUDGET_CPUS
    cpus: float = math.inf
    max_pending: int = 8
    max_pending_bytes: int = 64 * _MIB
    max_arena_bytes: int = 256 * _MIB
    max_jobs_per_s: float = 100.0
    timeout_s: float = 30.0
    stall_s: float = 60.0
    backoff_s: tuple[float, float] = (1.0, 60.0)
    max_kills: int = 3
    auto_complete: bool = True
    default_max_batch_size: int = 4
    is_idle: bool = True


@dataclass(frozen=True, slots=True)
class AsideFigures:
    """What the process aside has done so far, for the report and the metrics.

    `skipped` counts jobs that were not taken, by reason: `full`, `too_large`, `given_up`, or `unknown` for a
    version that is not open. `cpu_s` is its own CPU time, `serving_cpu_s` what its thread in the serving
    process took.
    """

    pid: int | None
    pending: int
    done: int
    failed: int
    starts: int
    cpu_s: float
    serving_cpu_s: float
    skipped: Mapping[str, int] = field(default_factory=dict)
    given_up: Mapping[ModelKey, str] = field(default_factory=dict)


def default_budget(quota_cpus: float | None) -> float:
    """The budget where nobody named one, in CPUs.

    Half a CPU, of those that nothing else wants. Where a cgroup's quota binds it is a twentieth of that:
    there the kernel counts what an idle process takes like everything else, and stops the serving one for it.

    Args:
        quota_cpus: from `read_cpu_quota`.
    """
    if quota_cpus is None:
        return DEFAULT_BUDGET_CPUS
    return min(DEFAULT_BUDGET_CPUS, max(_LEAST_BUDGET_CPUS, quota_cpus * _QUOTA_SHARE))
