"""OpenTelemetry spans: Triton's names and nesting, the caller's context, and what sampling makes of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs
from support.clock import FakeClock
from support.collector import http_collector
from support.traces import MODEL, call, request, run

from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.telemetry.tracing import FrontEnd, TraceLevel, TraceManager, TraceMode, TraceSettings
from naiad.telemetry.tracing.otel import SpanSink, collector_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c12666c", "b7ad6b7169242424"
CALLER = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(exporter: InMemorySpanExporter, clock: FakeClock) -> Iterator[Callable[..., TraceManager]]:
    """A maker of managers that export into memory."""
    made: list[TraceManager] = []

    def make(
        level: TraceLevel = TraceLevel.TIMESTAMPS,
        rate: int = 1,
        count: int = -1,
        options: tuple[tuple[str, str], ...] = (),
    ) -> TraceManager:
        settings = TraceSettings(level, rate, count, mode=TraceMode.OPENTELEMETRY, options=options)
        made.append(TraceManager(settings, sink=SpanSink(options, exporter=exporter), clock=clock))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


def spans(manager: TraceManager, exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """What was exported, by name."""
    manager.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def events(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


def test_a_request_is_three_nested_spans(
    traced: Callable[..., TraceManager], exporter: InMemorySpanExporter, clock: FakeClock
) -> None:
    manager = traced()
    trace = manager.begin("simple", {}, front_end=FrontEnd.GRPC)
    assert trace is not None
    run(trace, clock, "mine")
    found = spans(manager, exporter)
    root, model, compute = found["InferRequest"], found["simple"], found["compute"]
    assert root.parent is None
    assert model.parent is not None
    assert compute.parent is not None
    assert root.context is not None
    assert model.context is not None
    assert (model.parent.span_id, compute.parent.span_id) == (root.context.span_id, model.context.span_id)
    assert {span.context.trace_id for span in found.values() if span.context} == {root.context.trace_id}
    assert (root.kind, model.kind) == (SpanKind.SERVER, SpanKind.INTERNAL)
    assert events(root) == [
        "GRPC_WAITREAD_START",
        "GRPC_WAITREAD_END",
        "INFER_RESPONSE_COMPLETE",
        "GRPC_SEND_START",
        "GRPC_SEND_END",
    ]
    assert events(model) == ["REQUEST_START", "QUEUE_START", "REQUEST_END"]
    assert events(compute) == ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
    assert model.attributes == {
        "triton.model_name": "simple",
        "triton.model_version": MODEL.version,
        "triton.trace_id": 1,
        "triton.trace_parent_id": 0,
        "triton.request_id": "mine",
        "naiad.batch_size": 4,
        "naiad.batch_reason": "full",
    }
    assert compute.start_time is not None
    assert compute.end_time is not None
    assert compute.end_time - compute.start_time == 35_000
    assert root.status.status_code is StatusCode.UNSET


def test_the_callers_span_is_the_parent_and_its_requests_are_always_traced(
    traced: Callable[..., TraceManager], exporter: InMemorySpanExporter, clock: FakeClock
) -> None:
    manager = traced(rate=1_000)
    assert not call(manager, clock)
    assert call(manager, clock, **CALLER)
    root = spans(manager, exporter)["InferRequest"]
    assert root.context is not None
    assert root.parent is not None
    assert (f"{root.context.trace_id:032x}", f"{root.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)


def test_rate_0_traces_those_alone_that_their_callers_trace(
    traced: Callable[..., TraceManager], clock: FakeClock
) -> None:
    manager = traced(rate=0)
    assert manager.active
    assert not call(manager, clock)
    assert call(manager, clock, **CALLER)


def test_an_exhausted_count_stops_all_but_the_callers_own(
    traced: Callable[..., TraceManager], clock: FakeClock
) -> None:
    manager = traced(count=1)
    assert call(manager, clock)
    assert not call(manager, clock)
    assert call(manager, clock, **CALLER)


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{SPAN_ID}-01"])
def test_a_header_that_is_no_context_counts_for_nothing(
    traced: Callable[..., TraceManager], clock: FakeClock, header: str
) -> None:
    assert not call(traced(rate=1_000), clock, traceparent=header)


def test_level_off_beats_the_callers_context(traced: Callable[..., TraceManager], clock: FakeClock) -> None:
    manager = traced(level=TraceLevel.OFF)
    assert not call(manager, clock, **CALLER)


def test_a_failure_is_the_status_of_root_and_model(
    traced: Callable[..., TraceManager], exporter: InMemorySpanExporter
) -> None:
    manager = traced()
    trace = manager.begin("simple", {})
    assert trace is not None
    trace.start(request(), MODEL)
    trace.finish(None, InternalError("the run failed"))
    found = spans(manager, exporter)
    assert set(found) == {"InferRequest", "simple"}
    for span in found.values():
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "the run failed")


def test_tensors_are_events_of_the_model_span(
    traced: Callable[..., TraceManager], exporter: InMemorySpanExporter, clock: FakeClock
) -> None:
    """Triton has none in this mode; ours are bounded like the files'."""
    manager = traced(level=TraceLevel.TIMESTAMPS | TraceLevel.TENSORS)
    call(manager, clock)
    tensors = [
        event for event in spans(manager, exporter)["simple"].events if event.name.startswith("TENSOR")
    ]
    assert [(event.name, dict(event.attributes or {})) for event in tensors] == [
        (
            "TENSOR_QUEUE_INPUT",
            {"name": "INPUT0", "data": "0,1,2", "shape": (1, 3), "dtype": "INT32", "omitted": 0},
        ),
        (
            "TENSOR_BACKEND_OUTPUT",
            {"name": "OUTPUT0", "data": "0.5", "shape": (1, 1), "dtype": "FP32", "omitted": 0},
        ),
    ]


def test_tensors_alone_are_events_of_the_root(
    traced: Callable[..., TraceManager], exporter: InMemorySpanExporter, clock: FakeClock
) -> None:
    manager = traced(level=TraceLevel.TENSORS)
    call(manager, clock)
    found = spans(manager, exporter)
    assert events(found["InferRequest"]) == ["TENSOR_QUEUE_INPUT", "TENSOR_BACKEND_OUTPUT"]
    assert set(found) == {"InferRequest"}


@pytest.mark.parametrize(
    ("variable", "flag", "name"),
    [("", "", "triton-inference-server"), ("env", "", "env"), ("env", "flag=1", "flag=1")],
)
def test_the_service_is_named_by_flag_then_environment_then_default(
    monkeypatch: pytest.MonkeyPatch, variable: str, flag: str, name: str
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", variable)
    options = [("resource", "team=vision"), *([("resource", f"service.name={flag}")] if flag else [])]
    exporter = InMemorySpanExporter()
    settings = TraceSettings(TraceLevel.TIMESTAMPS, 1, mode=TraceMode.OPENTELEMETRY)
    manager = TraceManager(settings, sink=SpanSink(options, exporter=exporter))
    assert call(manager, FakeClock())
    resource = spans(manager, exporter)["InferRequest"].resource
    assert (resource.attributes["service.name"], resource.attributes["team"]) == (name, "vision")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:4399/v1/traces", "http://localhost:4399/v1/traces"),  # Triton's own spelling
        ("localhost:4399", "http://localhost:4399/v1/traces"),
        ("localhost:4399/", "http://localhost:4399/v1/traces"),
        ("localhost", "http://localhost/v1/traces"),
        ("[::1]:4399", "http://[::1]:4399/v1/traces"),
        ("collector/otlp/v1/traces?key=1", "http://collector/otlp/v1/traces?key=1"),
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://collector:4318/elsewhere", "https://collector:4318/elsewhere"),
        ("grpc://collector:4317", "grpc://collector:4317"),
        ("grpcs://collector:4317", "grpcs://collector:4317"),
    ],
)
def test_the_url_is_completed_by_what_is_missing_and_no_more(given: str, url: str) -> None:
    assert collector_url(given) == url


@pytest.mark.parametrize(
    "given", ["ftp://collector", "http://", ":4318", "host:port", "http://[::1", "/v1/traces"]
)
def test_a_url_that_nothing_could_be_sent_to_is_refused_with_its_text(given: str) -> None:
    with pytest.raises(InvalidArgumentError, match="HOST:PORT") as raised:
        SpanSink([("url", given)])
    assert f"url={given} " in str(raised.value)


@pytest.mark.parametrize("with_path", [True, False])
def test_spans_reach_a_collector_that_is_named_without_a_scheme(clock: FakeClock, with_path: bool) -> None:
    """As Triton's documentation spells it, and in short."""
    with http_collector() as collector:
        address = collector.url.removeprefix("http://")
        options = (("url", address if with_path else address.partition("/")[0]),)
        settings = TraceSettings(TraceLevel.TIMESTAMPS, 1, mode=TraceMode.OPENTELEMETRY, options=options)
        manager = TraceManager(settings, clock=clock)
        assert call(manager, clock)
        manager.close()
        assert set(collector.spans) == {"InferRequest", "simple", "compute"}


def test_a_refused_export_is_logged_with_the_whole_url_and_without_its_user(clock: FakeClock) -> None:
    with http_collector() as collector:
        url = collector.url.replace("/v1/traces", "/nowhere")
        options = (("url", url.replace("127.0.0.1", "secret@127.0.0.1")),)
        settings = TraceSettings(TraceLevel.TIMESTAMPS, 1, mode=TraceMode.OPENTELEMETRY, options=options)
        manager = TraceManager(settings, clock=clock)
        assert call(manager, clock)
        with capture_logs() as lines:
            manager.close()
    assert [line["url"] for line in lines if line["event"] == "opentelemetry"] == [url]
    assert "secret" not in str(lines)
