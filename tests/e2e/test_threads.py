"""The threads of a server: so many as docs/threads.md says, whatever the host has."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from support.onnx_models import add_sub
from support.processes import ServerProcess
from support.repositories import ADD_SUB_CONFIG, add_model

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc here")

CPUS = 2
MODELS = 3
# Those of gRPC's core follow the host's CPUs, between 4 and 16, and two more keep time and watch.
GRPC = max(4, min(16, os.cpu_count() or 1)) + 2


def kinds(pid: int) -> Counter[str]:
    """How many threads there are of each kind: the first word of the name, without a number."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    return Counter(name.split(" ")[0].rstrip("0123456789").rstrip("_") for name in names)


def test_threads_follow_the_budget_and_the_models(tmp_path: Path) -> None:
    """On two CPUs a model has two instances of one thread, or one with a pool of one more."""
    for number in range(MODELS):
        add_model(tmp_path, f"m{number}", add_sub(), ADD_SUB_CONFIG)
    add_model(tmp_path, "pooled", add_sub(), ADD_SUB_CONFIG + "instance_group { kind: KIND_CPU count: 1 }")
    with ServerProcess(tmp_path, f"--cpu-threads={CPUS}") as server:
        budget = server.wait_for("cpu budget")
        server.wait_for("ready")
        found = kinds(server.process.pid)
    assert budget["models"] == {f"m{number}/1": "2 x 1, no spin, rule" for number in range(MODELS)} | {
        "pooled/1": "1 x 2, no spin, config"
    }
    assert (budget["threads"], budget["decode_threads"]) == (CPUS, CPUS)
    assert found["run"] == MODELS * CPUS + 1
    assert found["pool"] == 1
    bounds = {"load": 4, "look": 2, "helper": CPUS + 2, "decode": CPUS, "metrics": 1}
    for kind, most in bounds.items():
        assert found[kind] <= most, kind
    others = found.total() - found["run"] - found["pool"] - sum(found[kind] for kind in bounds)
    # The main one, gRPC's poller, one that ONNX Runtime starts when it is loaded, and one to spare.
    assert others <= GRPC + 4, found
