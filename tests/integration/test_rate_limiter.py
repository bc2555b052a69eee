"""The rate limiter of a whole server: who runs beside whom, and what cannot be loaded."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from structlog.testing import capture_logs
from support.onnx_models import SLOW_SIZE, slow
from support.repositories import add_model
from support.servers import server

from naiad.core.tensors import InferRequest

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.app import NaiadServer
    from naiad.core.tensors import InferTimes

CONFIG = """
max_batch_size: 1
input [
  { name: "INPUT" data_type: TYPE_FP32 dims: [ 400, 400 ] },
  { name: "INDEX" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 400, 400 ] } ]
instance_group [ { kind: KIND_CPU count: 1 rate_limiter {
  resources [ { name: "R" count: %d } ] priority: 1
} } ]
"""


async def times(running: NaiadServer, name: str) -> InferTimes:
    inputs: dict[str, Any] = {
        "INPUT": np.ones((1, SLOW_SIZE, SLOW_SIZE), np.float32),
        "INDEX": np.zeros((1, 1), np.int64),
    }
    with running.manager.acquire(name, None) as handle:
        return (await handle.submit(InferRequest(name, None, inputs))).times


async def test_models_that_need_the_same_resource_never_run_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_model(tmp_path, name, slow(), CONFIG % 1)
    async with server(tmp_path, rate_limit="execution_count") as running:
        runs = await asyncio.gather(*(times(running, name) for name in ("one", "two") * 2))
    spans = sorted((each.compute_start_ns, each.compute_end_ns) for each in runs)
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start


async def test_an_instance_that_needs_more_than_the_explicit_total_fails_the_load(tmp_path: Path) -> None:
    add_model(tmp_path, "small", slow(), CONFIG % 2)
    add_model(tmp_path, "large", slow(), CONFIG % 3)
    flags = {"rate_limit": "execution_count", "rate_limit_resource": ("R:2",), "exit_on_error": False}
    async with server(tmp_path, **flags) as running:
        assert running.manager.is_ready("small", None)
        assert not running.manager.is_ready("large", None)
        (entry,) = (entry for entry in await running.manager.index() if entry.name == "large")
        assert 'Resource count for "R" is limited to 2' in str(entry.reason)
        assert (await times(running, "small")).compute_end_ns


async def test_without_the_flag_the_block_is_named_as_without_effect(tmp_path: Path) -> None:
    add_model(tmp_path, "one", slow(), CONFIG % 1)
    with capture_logs() as logs:
        async with server(tmp_path) as running:
            assert running.manager.is_ready("one", None)
    assert any("without --rate-limit=execution_count" in str(entry.get("detail")) for entry in logs)
