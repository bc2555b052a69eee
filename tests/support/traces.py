"""Traced requests without a server: what a scheduler would have answered, at times set by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.tensors import InferRequest, InferResponse, InferTimes, ModelKey

if TYPE_CHECKING:
    from pathlib import Path

    from support.clock import FakeClock

    from naiad.telemetry.tracing import RequestTrace, TraceManager

MODEL = ModelKey("simple", 3)


def request(request_id: str = "") -> InferRequest:
    """A request of one small tensor."""
    values = {"INPUT0": np.arange(3, dtype=np.int32).reshape(1, 3)}
    return InferRequest("simple", None, dict(values), request_id=request_id)


def response(clock: FakeClock) -> InferResponse:
    """Its answer, after 10 us in the queue, 2 placing, 30 running and 3 splitting."""
    start = clock.now
    times = InferTimes(start, start + 10_000, start + 12_000, start + 42_000, start + 45_000)
    clock.advance_us(50)
    outputs = {"OUTPUT0": np.array([[0.5]], np.float32)}
    return InferResponse(MODEL, dict(outputs), 4, "full", times)


def run(trace: RequestTrace, clock: FakeClock, request_id: str = "") -> None:
    """Take a trace through a whole successful request."""
    trace.start(request(request_id), MODEL)
    clock.advance_us(1)
    answer = response(clock)
    trace.respond()
    clock.advance_us(5)
    trace.finish(answer, None)


def call(manager: TraceManager, clock: FakeClock, model: str = "simple", **headers: str) -> bool:
    """One request; whether it was traced."""
    trace = manager.begin(model, headers)
    if trace is not None:
        run(trace, clock)
    return trace is not None


def read(path: Path) -> list[dict[str, Any]]:
    """A trace file's rows."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def identities(path: Path) -> list[int]:
    """The ids of the traces in a file, in order."""
    return [row["id"] for row in read(path) if "model_name" in row]
