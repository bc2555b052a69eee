"""The CPU budget follows cgroup quotas and affinity, never the host's count."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.runtime.threads import (
    LIBRARY_VARIABLES,
    CpuBudget,
    bound_library_threads,
    helper_threads,
    read_cpu_budget,
    read_cpu_quota,
)

if TYPE_CHECKING:
    from pathlib import Path

AFFINITY = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def test_an_operators_number_is_taken_and_what_is_above_the_machine_is_said(tmp_path: Path) -> None:
    own = tmp_path / "self"
    own.write_text("0::/\n")
    few, many = (read_cpu_budget(number, cgroup_root=tmp_path, proc_cgroup=own) for number in (8, 9))
    assert few == CpuBudget(8, "--cpu-threads")
    assert many == CpuBudget(9, "--cpu-threads, more than the 8 CPUs in this process's affinity")
    (tmp_path / "cpu.max").write_text("150000 100000")
    limited = read_cpu_budget(2, cgroup_root=tmp_path, proc_cgroup=own)
    assert limited.reason == f"--cpu-threads, more than the cgroup quota of 1.50 CPUs in {tmp_path}/cpu.max"


def budget(tmp_path: Path, groups: str, files: dict[str, str]) -> CpuBudget:
    root = tmp_path / "cgroup"
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = tmp_path / "self"
    own.write_text(groups)
    return read_cpu_budget(cgroup_root=root, proc_cgroup=own)


@pytest.mark.parametrize(
    ("groups", "files", "threads"),
    [
        pytest.param("0::/\n", {"cpu.max": "400000 100000\n"}, 4, id="v2: own group is the mount's root"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "300000 100000"}, 3, id="v2: nested group"),
        pytest.param(
            "0::/a/b\n",
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "max 100000"},
            2,
            id="v2: an ancestor's quota binds too",
        ),
        pytest.param(
            "0::/docker/1\n", {"cpu.max": "100000 50000"}, 2, id="v2: host's path, container's mount"
        ),
        pytest.param("0::/../x\n", {"cpu.max": "500000 100000"}, 5, id="v2: a path outside the namespace"),
        pytest.param("0::/\n", {"unified/cpu.max": "200000 100000"}, 2, id="v2 mounted beside v1"),
        pytest.param("0::/\n", {"cpu.max": "150000 100000"}, 1, id="a fraction is rounded down"),
        pytest.param("0::/\n", {"cpu.max": "20000 100000"}, 1, id="never below one"),
        pytest.param("0::/\n", {"cpu.max": "6400000 100000"}, 8, id="a quota above the affinity"),
        pytest.param("0::/\n", {"cpu.max": "max 100000"}, 8, id="v2: no quota"),
        pytest.param(
            "4:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            3,
            id="v1: quota",
        ),
        pytest.param(
            "4:cpu:/a\n",
            {
                "cpu/a/cpu.cfs_quota_us": "-1",
                "cpu/a/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "200000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            2,
            id="v1: an ancestor's quota",
        ),
        pytest.param(
            "5:cpuset:/\n",
            {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"},
            8,
            id="v1: only the cpu controller counts",
        ),
        pytest.param("", {}, 8, id="no cgroups"),
    ],
)
def test_quota(tmp_path: Path, groups: str, files: dict[str, str], threads: int) -> None:
    assert budget(tmp_path, groups, files).threads == threads


def test_reason_names_the_quota_and_its_file(tmp_path: Path) -> None:
    reason = budget(tmp_path, "0::/\n", {"cpu.max": "150000 100000"}).reason
    assert "1.50 CPUs" in reason
    assert str(tmp_path / "cgroup" / "cpu.max") in reason


def test_operator_overrides_everything(tmp_path: Path) -> None:
    assert read_cpu_budget(12, cgroup_root=tmp_path, proc_cgroup=tmp_path / "none").threads == 12


def test_override_below_one_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="at least 1, got 0"):
        read_cpu_budget(0)


def test_this_machine_gives_at_most_its_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= read_cpu_budget().threads <= AFFINITY


def test_libraries_start_no_threads_of_their_own_unless_told_how_many() -> None:
    environment = {"OMP_NUM_THREADS": "3"}
    bound_library_threads(environment)
    assert environment == dict.fromkeys(LIBRARY_VARIABLES, "1") | {"OMP_NUM_THREADS": "3"}


def test_helpers_follow_the_budget_and_not_the_host() -> None:
    assert helper_threads(CpuBudget(2, "test")) == 4


@pytest.mark.parametrize(
    ("text", "quota"), [("150000 100000", 1.5), ("900000 100000", None), ("max 100000", None)]
)
def test_a_quota_is_told_as_it_is_and_only_where_it_binds(
    tmp_path: Path, text: str, quota: float | None
) -> None:
    own = tmp_path / "self"
    own.write_text("0::/\n")
    (tmp_path / "cpu.max").write_text(text)
    assert read_cpu_quota(cgroup_root=tmp_path, proc_cgroup=own) == quota
