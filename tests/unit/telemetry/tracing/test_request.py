"""What one trace keeps, from the front end's first byte to its last."""

from __future__ import annotations

import pytest
from support.clock import FakeClock
from support.traces import MODEL, request, response, run

from naiad.core.errors import InvalidArgumentError
from naiad.telemetry.tracing import FrontEnd, RequestTrace, TraceLevel
from naiad.telemetry.tracing.request import MAX_TIMESTAMPS

EVERYTHING = TraceLevel.TIMESTAMPS | TraceLevel.TENSORS


@pytest.fixture
def done() -> list[RequestTrace]:
    return []


def traced(
    clock: FakeClock,
    done: list[RequestTrace],
    level: TraceLevel = EVERYTHING,
    front_end: FrontEnd | None = FrontEnd.GRPC,
) -> RequestTrace:
    return RequestTrace(7, "simple", level, clock=clock, done=done.append, front_end=front_end)


def test_a_request_leaves_tritons_timestamps_in_order(done: list[RequestTrace]) -> None:
    clock = FakeClock()
    trace = traced(clock, done)
    run(trace, clock, "mine")
    assert [name for name, _ in trace.timestamps] == [
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
    times = dict(trace.timestamps)
    assert times["COMPUTE_START"] - times["QUEUE_START"] == 10_000
    assert times["COMPUTE_OUTPUT_START"] - times["COMPUTE_INPUT_END"] == 30_000
    assert times["GRPC_SEND_END"] - times["REQUEST_END"] == 5_000
    assert (trace.version, trace.request_id, trace.batch_size, trace.batch_reason) == (3, "mine", 4, "full")
    assert done == [trace]


def test_tensors_are_kept_at_their_level_alone(done: list[RequestTrace]) -> None:
    clock = FakeClock()
    tensors = traced(clock, done, TraceLevel.TENSORS)
    run(tensors, clock)
    assert tensors.timestamps == []
    assert [(kept.activity, kept.name, kept.data()) for kept in tensors.tensors] == [
        ("TENSOR_QUEUE_INPUT", "INPUT0", "0,1,2"),
        ("TENSOR_BACKEND_OUTPUT", "OUTPUT0", "0.5"),
    ]
    timestamps = traced(clock, done, TraceLevel.TIMESTAMPS)
    run(timestamps, clock)
    assert timestamps.tensors == []


def test_a_refused_request_says_why_and_has_no_request_times(done: list[RequestTrace]) -> None:
    clock = FakeClock()
    trace = traced(clock, done, front_end=FrontEnd.HTTP)
    trace.finish(None, InvalidArgumentError("no such thing"))
    names = [name for name, _ in trace.timestamps]
    assert names[0] == "HTTP_RECV_START"
    assert names[-1] == "HTTP_SEND_END"
    assert "REQUEST_END" not in names
    assert (trace.error, trace.version) == ("no such thing", -1)


def test_a_failed_run_has_its_request_times_and_the_error(done: list[RequestTrace]) -> None:
    clock = FakeClock()
    trace = traced(clock, done, front_end=None)
    trace.start(request(), MODEL)
    trace.finish(None, ValueError())
    assert [name for name, _ in trace.timestamps] == [
        "REQUEST_START",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
    ]
    assert trace.error == "ValueError"


def test_finishing_twice_hands_it_over_once(done: list[RequestTrace]) -> None:
    clock = FakeClock()
    trace = traced(clock, done)
    trace.finish(response(clock), None)
    trace.finish(None, None)
    assert len(done) == 1
    assert trace.error == ""


def test_timestamps_are_bounded(done: list[RequestTrace]) -> None:
    trace = traced(FakeClock(), done)
    for index in range(2 * MAX_TIMESTAMPS):
        trace.mark(f"MARK_{index}")
    trace.finish(None, None)
    assert len(trace.timestamps) == MAX_TIMESTAMPS
