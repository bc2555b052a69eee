"""Where the microseconds of a small request go, the socket apart: `python -m bench.stages`.

A server in this process, whose event loop is stepped through one request of add/sub again and again: the CPU
time of each stage, the median of rounds. What sockets take is the rest of what `make bench` shows;
`docs/benchmarks.md` has the figures.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from bench.wire_stage import WireCalls
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2 as pb

from naiad.app import NaiadServer
from naiad.config.server_config import server_config
from naiad.core.tensors import InferRequest
from naiad.demo.repository import build_repository
from naiad.runtime.allocator import keep_memory_warm
from naiad.services.wire.plan import InferPlans
from naiad.services.wire.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.core.tensors import Array
    from naiad.lifecycle.version import ModelHandle

ROUNDS, CALLS = 15, 400
MODEL = "add_sub"


def main() -> None:
    """Measure and print."""
    keep_memory_warm()
    with tempfile.TemporaryDirectory(prefix="naiad-stages-") as folder:
        build_repository(Path(folder))
        found = asyncio.run(_measure(Path(folder)))
    table = Table("stage", "us", title="CPU time of a small request, the socket apart")
    for name, took_us in found.items():
        table.add_row(name, f"{took_us:.1f}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


async def _measure(repository: Path) -> dict[str, float]:
    flags = {
        "model_repository": (repository,),
        "model_control_mode": "explicit",
        "load_model": (MODEL,),
        "allow_http": False,
        "allow_metrics": False,
        "grpc_address": "127.0.0.1",
        "grpc_port": 0,
    }
    config = server_config(flags)
    async with NaiadServer(config) as server:
        with server.manager.acquire(MODEL, None) as handle:
            return await _stages(handle)


async def _stages(handle: ModelHandle) -> dict[str, float]:
    message, data = _request()
    arrays: dict[str, Array] = {name: np.ones((1, 16), np.float32) for name in ("INPUT0", "INPUT1")}
    plans = InferPlans()
    first = InferRequest(MODEL, None, arrays)
    plans.learn(data, message, first, None, handle.config)
    known = plans.find(data)
    assert known is not None
    plan, scanned = known
    for _ in range(100):  # until the model runs inline
        response = await handle.submit(first)
    session = handle._serving._loaded.sessions[0]  # noqa: SLF001  # no one else has a use for it
    outputs = tuple(sorted(output.name for output in handle.config.outputs))
    wire = WireCalls(data, plan.reply(response, b"", 2**30))
    stages: dict[str, Callable[[], object]] = {
        "HTTP/2, frames to call and answer to frames": wire,
        "parse with protobuf (the long way only)": lambda: pb.ModelInferRequest.FromString(data),
        "scan": lambda: scan(data),
        "scan and find the plan": lambda: plans.find(data),
        "make the request's views": lambda: plan.request(data, scanned, None),
        "schedule, run inline and count": lambda: handle.submit(first),
        "of that the session's run": lambda: session.run(arrays, outputs),
        "write the reply": lambda: plan.reply(response, b"", 2**30),
    }
    found = {name: _median_us(call) for name, call in stages.items()}
    wire.close()
    return found


def _request() -> tuple[pb.ModelInferRequest, bytes]:
    message = pb.ModelInferRequest(model_name=MODEL)
    for name in ("INPUT0", "INPUT1"):
        message.inputs.add(name=name, datatype="FP32", shape=[1, 16])
        message.raw_input_contents.append(np.ones(16, np.float32).tobytes())
    return message, message.SerializeToString()


def _median_us(call: Callable[[], object]) -> float:
    """Of a call, the median over rounds of its thread's CPU time."""
    rounds = []
    for _ in range(ROUNDS):
        before = time.thread_time_ns()
        for _ in range(CALLS):
            call()
        rounds.append((time.thread_time_ns() - before) / CALLS / 1_000)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
