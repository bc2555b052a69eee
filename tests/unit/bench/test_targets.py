"""The servers of a run: a peer that does not start is a reason, one that dies says so, none is left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from bench.cases import Case
from bench.meter import tree_cpu_ns, tree_memory_mib
from bench.peer_repositories import triton_config
from bench.peers import Environment, NotThereError
from bench.targets import Peer, check_answer, empty_peer, executions
from rich.console import Console
from support.onnx_models import add_sub
from support.repositories import add_model
from support.servers import address, server
from tritonclient.grpc import model_config_pb2

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.targets import Target


def peer(tmp_path: Path, program: str) -> Peer:
    command = [sys.executable, "-c", program]
    return Peer("Peer", {"unary"}, tmp_path / "peer.log", command, environment={}, models=["m"], port=1)


def test_a_peer_that_ends_at_its_start_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match=r"Peer ended with exit code 3: see peer\.log"),
        peer(tmp_path, "print('no such option', flush=True); raise SystemExit(3)"),
    ):
        pass
    assert (tmp_path / "peer.log").read_text() == "no such option\n"


def test_the_workers_of_a_peer_that_crashed_are_ended(tmp_path: Path) -> None:
    """Its child outlives it, in the same session."""
    crashing = peer(
        tmp_path,
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); raise SystemExit(1)",
    )
    with pytest.raises(UnavailableError), crashing:
        pass
    child = int((tmp_path / "peer.log").read_text())
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}/exe") and time.monotonic() < deadline:  # noqa: PTH110  # Path.exists raises for a process that ends
        os.sched_yield()
    assert not os.path.exists(f"/proc/{child}/exe")  # noqa: PTH110  # see above


async def test_an_answer_is_compared_value_by_value(tmp_path: Path) -> None:
    """Two answers with the same sum are not the same answer."""
    add_model(tmp_path / "repository", "simple", add_sub(), config="max_batch_size: 8")
    numbers = np.arange(16, dtype=np.int32).reshape(1, 16)
    for name in ("INPUT0", "INPUT1"):
        numbers.tofile(tmp_path / name)
    inputs: dict[str, tuple[str, tuple[int, ...]]] = dict.fromkeys(("INPUT0", "INPUT1"), ("int32", (1, 16)))
    case = Case("k", "n", "simple", "", inputs, str(tmp_path))
    right, wrong, missing = (tmp_path / f"{name}.npz" for name in ("right", "wrong", "missing"))
    np.savez(right, OUTPUT0=numbers * 2, OUTPUT1=numbers * 0)
    np.savez(wrong, OUTPUT0=numbers[:, ::-1] * 2)
    np.savez(missing, OUTPUT9=numbers)
    async with server(tmp_path / "repository") as running:
        found = [await _checked(address(running), case, file) for file in (right, wrong, missing)]
    assert found[0] == ""
    assert "output 'OUTPUT0' differs" in found[1]
    assert "output 'OUTPUT9' has not 16 values" in found[2]


async def test_the_empty_server_gives_naiads_answer_and_counts(tmp_path: Path) -> None:
    add_model(tmp_path / "repository", "add_sub", add_sub(), config="max_batch_size: 8")
    numbers = np.arange(16, dtype=np.int32).reshape(1, 16)
    for name in ("INPUT0", "INPUT1"):
        numbers.tofile(tmp_path / name)
    inputs: dict[str, tuple[str, tuple[int, ...]]] = dict.fromkeys(("INPUT0", "INPUT1"), ("int32", (1, 16)))
    case = Case("add_sub", "n", "add_sub", "", inputs, str(tmp_path))
    np.savez(tmp_path / "right.npz", OUTPUT0=numbers * 2, OUTPUT1=numbers * 0)

    def ask(naiad: str) -> tuple[str, tuple[int, int]]:
        """What is wrong with its answer, and what it has counted."""
        target = cast("Target", SimpleNamespace(address=naiad))
        with empty_peer(tmp_path / "empty", tmp_path / "empty.log", [case], target) as empty:
            wrong = check_answer(empty.address, case, tmp_path / "right.npz")
            return wrong, executions(empty.address, case)

    async with server(tmp_path / "repository") as running:
        assert await asyncio.to_thread(ask, address(running)) == ("", (1, 1))


async def _checked(server_address: str, case: Case, expected: Path) -> str:
    return await asyncio.to_thread(check_answer, server_address, case, expected)


def test_a_peer_gets_the_layout_and_the_shapes_of_its_graph() -> None:
    inputs: dict[str, tuple[str, tuple[int, ...]]] = {"x": ("uint8", (1, 4, 4, 3))}
    outputs = [
        {"name": "boxes", "dtype": "float32", "shape": [-1, -1, 4]},
        {"name": "count", "dtype": "int32", "shape": [-1]},
    ]
    config = triton_config(Case("k", "n", "m", "", inputs, "", max_batch=4), outputs, 2)
    assert (config.max_batch_size, config.instance_group[0].count) == (4, 2)
    assert config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [4, 4, 3]
    assert config.input[0].data_type == model_config_pb2.TYPE_UINT8
    assert [list(output.dims) for output in config.output] == [[-1, 4], [1]]
    assert config.output[1].HasField("reshape")
    fixed = triton_config(Case("k", "n", "m", "", inputs, ""), outputs[:1], 2)
    assert (fixed.max_batch_size, fixed.HasField("dynamic_batching")) == (0, False)
    assert list(fixed.input[0].dims) == [1, 4, 4, 3]


def test_cpu_time_and_memory_are_those_of_the_whole_tree() -> None:
    """A child that has worked and ended counts with its parent's children, one that runs with itself."""
    before = tree_cpu_ns(os.getpid())
    subprocess.run([sys.executable, "-c", "sum(range(10**6 * 5))"], check=True)
    assert tree_cpu_ns(os.getpid()) - before >= 50_000_000
    own = tree_memory_mib(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", "x = b'1' * 2**26; print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert tree_memory_mib(os.getpid()) - own > 60
        child.communicate(b"\n")
    assert tree_cpu_ns(child.pid) == 0


def test_an_environment_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.FOLDER", tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    environment = Environment("peer", ("package",))
    with pytest.raises(NotThereError, match="peer: .*no-such-python"):
        environment.make(Console(quiet=True))
    assert not environment.made
    assert list(tmp_path.iterdir()) == []
