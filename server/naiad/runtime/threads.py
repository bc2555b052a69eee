"""How many CPU threads this process may use: its cgroup quota and affinity, never the host's count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

LIBRARY_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What numpy's and OpenCV's linear algebra reads when it is loaded."""

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """The threads that computing may keep busy at once, at least 1, and where the number comes from."""

    threads: int
    reason: str


def bound_library_threads(environment: MutableMapping[str, str]) -> None:
    """Let libraries of linear algebra start no threads, unless the operator has said how many.

    Each would start one for every CPU of the host when it is imported, and keep them. What a server computes
    with them is a few numbers a picture, in decode threads that are many already. Call it before numpy is
    imported.
    """
    for name in LIBRARY_VARIABLES:
        environment.setdefault(name, "1")


def helper_threads(budget: CpuBudget) -> int:
    """How many threads do what would hold up the event loop: inflating, large JSON, digests, closing.

    Those that compute are bounded by the budget. Two more may wait for a model's last run to end, and hold
    up nobody.
    """
    return budget.threads + 2


class _Quota(NamedTuple):
    cpus: float
    source: Path


def read_cpu_budget(
    override: int | None = None, *, cgroup_root: Path = CGROUP_ROOT, proc_cgroup: Path = PROC_CGROUP
) -> CpuBudget:
    """The CPU budget of this process: the smallest of its affinity and the quotas of its cgroups.

    A fractional quota is rounded down (1.5 CPUs are 1 thread, and never less than 1): a pool that is larger
    than the quota uses it up early in each period and is then stopped as a whole, which costs more than the
    fraction, and the event loop needs the rest.

    Args:
        override: the operator's own number; it is taken as it is, and the reason says whether it is too many.
        cgroup_root: where the cgroup file systems are mounted.
        proc_cgroup: the file that names this process's groups.

    Raises:
        InvalidArgumentError: `override` is below 1.
    """
    if override is not None:
        if override < 1:
            raise InvalidArgumentError(f"the number of CPU threads must be at least 1, got {override}")
        found = read_cpu_budget(cgroup_root=cgroup_root, proc_cgroup=proc_cgroup)
        above = f", more than the {found.reason}" if override > found.threads else ""
        return CpuBudget(override, f"--cpu-threads{above}")
    affinity = _affinity()
    quota = min(_quotas(cgroup_root, proc_cgroup), default=None)
    if quota is None or quota.cpus >= affinity:
        return CpuBudget(affinity, f"{affinity} CPU{'s' * (affinity > 1)} in this process's affinity")
    return CpuBudget(max(1, int(quota.cpus)), f"cgroup quota of {quota.cpus:.2f} CPUs in {quota.source}")


def read_cpu_quota(*, cgroup_root: Path = CGROUP_ROOT, proc_cgroup: Path = PROC_CGROUP) -> float | None:
    """The CPUs' worth of time that this process's cgroups may use, where that is less than it has CPUs.

    Within a quota all CPU time counts alike, that of idle processes too: who uses it up stops the others.
    """
    quota = min(_quotas(cgroup_root, proc_cgroup), default=None)
    return None if quota is None or quota.cpus >= _affinity() else quota.cpus


def read_cpus() -> float:
    """The CPUs' worth of time that this process may use: its affinity, or a smaller quota."""
    return read_cpu_quota() or float(_affinity())


def _affinity() -> int:
    get_affinity = getattr(os, "sched_getaffinity", None)
    return len(get_affinity(0)) if get_affinity else os.cpu_count() or 1


def _quotas(cgroup_root: Path, proc_cgroup: Path) -> Iterator[_Quota]:
    """Every quota that binds this process: cgroup v2 (also mounted beside v1) and v1."""
    for controllers, path in _own_groups(proc_cgroup):
        if not controllers:
            for mount in (cgroup_root, cgroup_root / "unified"):
                yield from _present(_quota_v2(folder) for folder in _with_ancestors(mount, path))
        elif "cpu" in controllers:
            for name in ("cpu", ",".join(controllers)):
                yield from _present(_quota_v1(folder) for folder in _with_ancestors(cgroup_root / name, path))


def _own_groups(proc_cgroup: Path) -> Iterator[tuple[list[str], str]]:
    """Controllers (none for v2) and path of each group, from lines such as `4:cpu,cpuacct:/a/b`."""
    for line in (_read(proc_cgroup) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        yield [name for name in controllers.split(",") if name], path


def _with_ancestors(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above it; a container may see only its own group, as the mount's root."""
    group = PurePosixPath(path.lstrip("/"))
    if ".." not in group.parts:
        yield from (mount / folder for folder in (group, *group.parents) if folder.parts)
    yield mount


def _quota_v2(folder: Path) -> _Quota | None:
    source = folder / "cpu.max"
    fields = (_read(source) or "max").split()
    if fields[0] == "max":
        return None
    return _Quota(int(fields[0]) / int(fields[1]), source)


def _quota_v1(folder: Path) -> _Quota | None:
    source = folder / "cpu.cfs_quota_us"
    quota, period = int(_read(source) or -1), int(_read(folder / "cpu.cfs_period_us") or 0)
    return _Quota(quota / period, source) if quota > 0 and period > 0 else None


def _present(quotas: Iterable[_Quota | None]) -> Iterator[_Quota]:
    return (quota for quota in quotas if quota is not None)


def _read(path: Path) -> str | None:
    """The file's text, or None: groups vanish, and containers hide some of them."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None
