"""What is measured of the schedulers: deadlines, refusals and callers that leave, on a busy server.

One model, three times with another queue: a loop whose number of turns the request says, so that a run takes
as long as is wanted. It is the caller's clock that counts, over loopback, with the stock asyncio client.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from naiad.core.errors import InternalError
from naiad.scheduling.admission import ENOUGH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

QUEUE_TIMEOUT_MS = 10
LONG_RUN_MS = 500
QUEUE_SIZE = 100
CALLERS = 1_000
SHORT_RUN_MS = 10
CALLERS_WINDOW_S = 4.0
LEAVING = 50
_SETTLE_S = 0.05
_PATIENCE_S = 60.0

_POLICIES = {
    "timeout": f"default_queue_policy {{ default_timeout_microseconds: {QUEUE_TIMEOUT_MS * 1_000} }}",
    "bounded": f"default_queue_policy {{ max_queue_size: {QUEUE_SIZE} }}",
    "plain": "",
}
_CONFIG = """
max_batch_size: 1
instance_group [ { kind: KIND_CPU count: 1 } ]
input [
  { name: "INPUT" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "TURNS" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
dynamic_batching { %s }
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and what is wanted of it, both ends included; None for no bound. `note` says how it came."""

    part: str
    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is what is wanted."""
        enough = self.at_least is None or self.value >= self.at_least
        return enough and (self.at_most is None or self.value <= self.at_most)


class Ended(NamedTuple):
    """How a call ended: at what time, after how long, in milliseconds, and with which error, if any."""

    at_ms: float
    ms: float
    error: str = ""


def build_models(repository: Path) -> None:
    """Write the three models into an empty folder."""
    graph = _loop().SerializeToString()
    for name, policy in _POLICIES.items():
        path = repository / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(graph)
        (repository / name / "config.pbtxt").write_text(_CONFIG % policy)


def _loop() -> onnx.ModelProto:
    """OUTPUT = INPUT + 1 + 1 …, TURNS times (FP32 and INT64 `[1, 1]`)."""
    value: list[str | int | None] = ["N", 1]
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["value", "step"], ["next"]),
        ],
        "body",
        [
            info("turn", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("value", TensorProto.FLOAT, value),
        ],
        [info("go_on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, value)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Squeeze", ["TURNS"], ["turns"]),
            helper.make_node("Loop", ["turns", "", "INPUT"], ["OUTPUT"], body=body),
        ],
        "loop",
        [info("INPUT", TensorProto.FLOAT, value), info("TURNS", TensorProto.INT64, value)],
        [info("OUTPUT", TensorProto.FLOAT, value)],
        [helper.make_tensor("step", TensorProto.FLOAT, [], [1.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Caller:
    """Calls the models with runs of a wanted length."""

    def __init__(self, client: triton.InferenceServerClient, metrics: str) -> None:
        self._client = client
        self._metrics = metrics
        self._turns_a_ms = 1_000.0

    async def calibrate(self) -> None:
        """Find out how many turns of the loop take a millisecond here."""
        for _ in range(3):
            took_ms = (await self.call("plain", 100)).ms
            self._turns_a_ms *= 100 / took_ms

    async def call(self, model: str, run_ms: float) -> Ended:
        """Ask for a run of that length; tell how it ended."""
        inputs = [triton.InferInput("INPUT", [1, 1], "FP32"), triton.InferInput("TURNS", [1, 1], "INT64")]
        inputs[0].set_data_from_numpy(np.zeros((1, 1), np.float32))
        inputs[1].set_data_from_numpy(np.array([[int(run_ms * self._turns_a_ms)]], np.int64))
        start_ms, error = _now_ms(), ""
        try:
            await self._client.infer(model, inputs)
        except InferenceServerException as told:
            error = f"{told.status()} {told.message()}"
        return Ended(_now_ms(), _now_ms() - start_ms, error)

    async def call_idle(self) -> Ended:
        """Ask whether the server is there: what a call costs in which nothing is done."""
        start_ms = _now_ms()
        await self._client.is_server_live()
        return Ended(_now_ms(), _now_ms() - start_ms)

    async def occupy(self, model: str, run_ms: float) -> asyncio.Task[Ended]:
        """Let a model's only instance run for so long; returns once it does."""
        task = asyncio.create_task(self.call(model, run_ms))
        await asyncio.sleep(_SETTLE_S)
        return task

    async def metric(self, family: str, model: str) -> float:
        """A model's value of one of the server's metrics; 0 where there is none yet."""
        text = await asyncio.to_thread(_read, f"http://{self._metrics}/metrics")
        for line in text.splitlines():
            if line.startswith(f"{family}{{") and f'model="{model}"' in line:
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    async def executions(self, model: str) -> int:
        """How often a model was run."""
        statistics: Any = await self._client.get_inference_statistics(model)
        return int(statistics.model_stats[0].execution_count)


def _now_ms() -> float:
    return time.perf_counter_ns() / 1e6


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_PATIENCE_S) as response:
        text: str = response.read().decode()
        return text


def _percentile(ended: Sequence[Ended], percent: float) -> float:
    return float(np.percentile([each.ms for each in ended], percent))


def _require(ended: Sequence[Ended], words: str) -> None:
    """Every call ended with these words, else what was measured is something else.

    Raises:
        InternalError: one did not.
    """
    for each in ended:
        if words not in each.error or (not words and each.error):
            raise InternalError(f"a call ended with '{each.error}', expected '{words}'")


async def measure_timeouts(caller: Caller, rounds: int) -> list[Check]:
    """(a) A queue timeout of 10 ms while the only instance runs for 500 ms; then what admission does."""
    part = f"{QUEUE_TIMEOUT_MS} ms queue timeout, a run of {LONG_RUN_MS} ms"
    told: list[Ended] = []
    idle_calls: list[Ended] = []
    rounds = min(rounds, ENOUGH - 2)  # before admission control knows how long runs take
    for _ in range(rounds):
        run = await caller.occupy("timeout", LONG_RUN_MS)
        for _ in range(15):
            told.append(await caller.call("timeout", 0))
            idle_calls.append(await caller.call_idle())
        _require([await run], "")
    _require(told, "Request timeout expired")
    for _ in range(ENOUGH):
        _require([await caller.call("timeout", LONG_RUN_MS / 2)], "")
    run = await caller.occupy("timeout", LONG_RUN_MS / 2)
    refused = [await caller.call("timeout", 0) for _ in range(20)]
    _require([await run], "")
    _require(refused, "--admission-control")
    low, high = QUEUE_TIMEOUT_MS, QUEUE_TIMEOUT_MS + 5
    return [
        Check(
            part, "told that it timed out, p50", _percentile(told, 50), "ms", low, high, f"{len(told)} calls"
        ),
        Check(part, "the same, p99", _percentile(told, 99), "ms", low, high + _percentile(idle_calls, 99)),
        Check(part, "a call that does nothing, p50", _percentile(idle_calls, 50), "ms"),
        Check(part, "the same, p99", _percentile(idle_calls, 99), "ms"),
        Check(
            part,
            "refused by admission control, p50",
            _percentile(refused, 50),
            "ms",
            at_most=5,
            note=f"{len(refused)} calls, once {ENOUGH} runs were measured",
        ),
    ]


async def measure_refusals(caller: Caller) -> list[Check]:
    """(b) 1,000 callers on a queue of 100, who come within four seconds, then all at once."""
    part = f"{CALLERS:,} callers in {CALLERS_WINDOW_S:.0f} s, a queue of {QUEUE_SIZE}"
    paced, idle_calls = await _all_call(caller, CALLERS_WINDOW_S / CALLERS)
    accepted, refused = _told_apart(paced)
    nothing_ms = _percentile(idle_calls, 50)
    # Before a request are at most those that wait, and one that runs.
    ends = sorted(each.at_ms for each in accepted)
    in_a_row = QUEUE_SIZE + 2
    bound_ms = max(last - first for first, last in zip(ends, ends[in_a_row:], strict=False))
    refused_ms = _percentile(refused, 50)
    checks = [
        Check(
            part, "answered or refused", len(paced), "calls", CALLERS, CALLERS, f"{len(accepted)} answered"
        ),
        Check(part, "a call that does nothing, p50", nothing_ms, "ms", note=f"{len(idle_calls)} calls"),
        Check(part, "a refusal, p50", refused_ms, "ms", at_most=5, note=f"{len(refused)} calls"),
        Check(
            part, "the same, as often a call that does nothing", refused_ms / nothing_ms, "times", at_most=2
        ),
        Check(
            part,
            "an answer, p99",
            _percentile(accepted, 99),
            "ms",
            None,
            bound_ms,
            f"{in_a_row} runs in a row",
        ),
    ]
    burst, _ = await _all_call(caller, 0)
    accepted, refused = _told_apart(burst)
    part = f"{CALLERS:,} callers at once, a queue of {QUEUE_SIZE}"
    return [
        *checks,
        Check(
            part, "answered or refused", len(burst), "calls", CALLERS, CALLERS, f"{len(accepted)} answered"
        ),
        # Their clocks run while one process writes a thousand calls: that is not the server's time.
        Check(part, "the last refusal", max(each.ms for each in refused), "ms"),
    ]


async def _all_call(caller: Caller, every_s: float) -> tuple[list[Ended], list[Ended]]:
    """All callers, one every so often, and ten calls a hundred callers that ask for nothing."""

    async def late(index: int) -> Ended:
        await asyncio.sleep(index * every_s)
        return await caller.call("bounded", SHORT_RUN_MS)

    async def late_idle(index: int) -> Ended:
        await asyncio.sleep(index * every_s)
        return await caller.call_idle()

    async with asyncio.timeout(_PATIENCE_S):
        calls = asyncio.gather(*(late(index) for index in range(CALLERS)))
        idle_calls = asyncio.gather(*(late_idle(index) for index in range(0, CALLERS, 10)))
        return await calls, await idle_calls


def _told_apart(ended: list[Ended]) -> tuple[list[Ended], list[Ended]]:
    """Those that were answered, and those that were refused, which the queue's limit must have done."""
    refused = [each for each in ended if each.error]
    _require(refused, "Exceeds maximum queue size")
    return [each for each in ended if not each.error], refused


async def measure_leavers(caller: Caller, rounds: int) -> list[Check]:
    """(c) Fifty callers leave the queue, and then the one whose request runs."""
    part = f"{LEAVING} callers leave"
    emptied_ms, freed_ms = [], []
    executions = await caller.executions("plain")
    for _ in range(rounds):
        run = await caller.occupy("plain", LONG_RUN_MS)
        waiting = [asyncio.create_task(caller.call("plain", LONG_RUN_MS)) for _ in range(LEAVING)]
        await _wait_for_queue(caller, LEAVING)
        for each in waiting:
            each.cancel()
        emptied_ms.append(await _wait_for_queue(caller, 0))
        _require([await run], "")
    ran = await caller.executions("plain") - executions
    wasted = await caller.metric("naiad_wasted_batch_items_total", "plain")
    for _ in range(rounds):
        run = await caller.occupy("plain", 20 * LONG_RUN_MS)
        run.cancel()
        await asyncio.wait([run])
        freed_ms.append((await caller.call("plain", 0)).ms)
    ended = await caller.metric("naiad_terminated_runs_total", "plain")
    return [
        Check(
            part,
            "the queue is empty after, median",
            float(np.median(emptied_ms)),
            "ms",
            at_most=LONG_RUN_MS / 5,
        ),
        Check(part, "runs beside those that were at work", ran - rounds, "runs", 0, 0, f"{rounds} rounds"),
        Check(part, "batch items computed for nobody", wasted, "items", 0, 0),
        Check(
            "the caller of a run of 10 s leaves",
            "the next one is answered after, median",
            float(np.median(freed_ms)),
            "ms",
            at_most=25,
            note=f"{ended:.0f} of {rounds} runs ended before their time",
        ),
    ]


async def _wait_for_queue(caller: Caller, size: int) -> float:
    """Wait until so many requests are in the queue; returns for how many milliseconds, looking included."""
    start = time.perf_counter()
    async with asyncio.timeout(_PATIENCE_S):
        while await caller.metric("naiad_queue_size", "plain") != size:  # noqa: ASYNC110  # another process's
            await asyncio.sleep(0.001)
    return (time.perf_counter() - start) * 1e3
