"""Traces of requests that a real model answered: into Triton's files, and to real collectors."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from structlog.testing import capture_logs
from support.clock import FakeClock
from support.collector import grpc_collector, http_collector
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import server
from support.traces import call, identities, read

from naiad.core.tensors import InferRequest
from naiad.telemetry.tracing import FrontEnd, TraceManager, TraceSettings, otel, parse_trace_config

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.app import NaiadServer

CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c12666c-b7ad6b7169242424-01"}
OPENTELEMETRY = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=1"]


async def infer(running: NaiadServer, traces: TraceManager, request_id: str, **headers: str) -> None:
    """One request, traced as a front end does it."""
    trace = traces.begin("simple", headers, front_end=FrontEnd.GRPC)
    assert trace is not None
    inputs = {name: np.full((1, 16), 2, np.int32) for name in ("INPUT0", "INPUT1")}
    request = InferRequest("simple", None, dict(inputs), request_id=request_id)
    with running.manager.acquire("simple", None) as handle:
        trace.start(request, handle.key)
        response = await handle.submit(request)
    trace.respond()
    trace.finish(response, None)


async def test_concurrent_requests_of_a_real_model_leave_a_whole_file(tmp_path: Path) -> None:
    """Each with all of Triton's timestamps, in their order, and its tensors."""
    add_model(tmp_path / "models", "simple", add_sub(), ADD_SUB_CONFIG)
    path = tmp_path / "t.json"
    traces = TraceManager(
        parse_trace_config([f"triton,file={path}", "level=TIMESTAMPS", "level=TENSORS", "rate=1"], {})
    )
    async with server(tmp_path / "models") as running:
        await asyncio.gather(*(infer(running, traces, f"r{index}") for index in range(20)))
    traces.close()
    assert sorted(identities(path)) == list(range(1, 21))
    rows = read(path)
    assert {row["request_id"] for row in rows if "request_id" in row} == {f"r{index}" for index in range(20)}
    first = [row for row in rows if row["id"] == 1]
    stamps = [(stamp["name"], stamp["ns"]) for row in first for stamp in row.get("timestamps", ())]
    order = [
        "GRPC_WAITREAD_START",
        "GRPC_WAITREAD_END",
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
        "GRPC_SEND_START",
        "GRPC_SEND_END",
    ]
    assert [name for name, _ in stamps] == order
    assert [ns for _, ns in stamps] == sorted(ns for _, ns in stamps)
    tensors = {row["tensor"]["name"]: row["tensor"]["data"] for row in first if "tensor" in row}
    assert tensors == {name: ",".join(["2"] * 16) for name in ("INPUT0", "INPUT1")} | {
        "OUTPUT0": ",".join(["4"] * 16),
        "OUTPUT1": ",".join(["0"] * 16),
    }


@pytest.mark.parametrize("transport", [http_collector, grpc_collector], ids=["http", "grpc"])
async def test_a_real_collector_receives_the_spans_below_the_callers(
    tmp_path: Path, transport: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    before_ns = time.time_ns()
    with transport() as collector:
        entries = [*OPENTELEMETRY, f"opentelemetry,url={collector.url}", "opentelemetry,resource=team=vision"]
        traces = TraceManager(parse_trace_config(entries, {}))
        async with server(tmp_path) as running:
            await infer(running, traces, "mine", **CALLER)
        traces.close()
        spans = collector.spans
    assert set(spans) == {"InferRequest", "simple", "compute"}
    assert {span.trace_id.hex() for span in spans.values()} == {"0af7651916cd43dd8448eb211c12666c"}
    assert spans["InferRequest"].parent_span_id.hex() == "b7ad6b7169242424"
    assert spans["simple"].parent_span_id == spans["InferRequest"].span_id
    assert spans["compute"].parent_span_id == spans["simple"].span_id
    assert before_ns <= spans["compute"].start_time_unix_nano <= spans["compute"].end_time_unix_nano
    assert spans["InferRequest"].end_time_unix_nano <= time.time_ns()
    assert (collector.resource["service.name"], collector.resource["team"]) == (
        "triton-inference-server",
        "vision",
    )


def test_a_collector_that_is_not_there_is_logged_and_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs the traces, neither the end of the server nor a thread."""
    monkeypatch.setattr(otel, "CLOSE_LIMIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    threads = set(threading.enumerate())
    entries = [*OPENTELEMETRY, f"opentelemetry,url=http://127.0.0.1:{port}/v1/traces"]
    traces = TraceManager(parse_trace_config(entries, {}))
    assert call(traces, FakeClock())
    started = time.monotonic()
    with capture_logs() as logs:
        traces.close()
    assert time.monotonic() - started < 6
    assert any(entry["event"] == "opentelemetry" and entry["who"] == "operator" for entry in logs)
    assert set(threading.enumerate()) <= threads


def test_settings_change_while_traces_are_written(tmp_path: Path) -> None:
    """Every trace is in exactly one file, whatever log_frequency was when it was begun."""
    path = tmp_path / "t.json"
    clock = FakeClock()
    traces = TraceManager(TraceSettings(file=str(path)), clock=clock)
    traces.update("", {"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]})
    for index in range(60):
        traces.update("simple" if index % 7 else "", {"log_frequency": [str(index % 5)]})
        for _ in range(3):
            assert call(traces, clock)
    traces.close()
    found = [identity for file in tmp_path.iterdir() for identity in identities(file)]
    assert sorted(found) == list(range(1, 181))
