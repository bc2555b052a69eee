"""Traces as OpenTelemetry spans, named as Triton names them. Needs the extra `naiad[otel]`.

One traced request is three spans: `InferRequest` (what the front end saw), below it one called like the model
(accepted to answered), below that `compute` (on an instance).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import structlog
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from naiad.telemetry.tracing.request import RequestTrace
    from naiad.telemetry.tracing.sinks import TraceGroup
    from naiad.telemetry.tracing.tensors import TensorRecord

TRACES_PATH = "/v1/traces"
DEFAULT_URL = f"http://localhost:4318{TRACES_PATH}"
_OVER_GRPC = ("grpc", "grpcs")
DEFAULT_SERVICE = "triton-inference-server"
"""The service's name unless resource or environment say another; dashboards made for Triton know it."""

CLOSE_LIMIT_S = 5.0
"""How long a collector that does not answer may hold up the end."""

MODEL_EVENTS = ("REQUEST_START", "QUEUE_START", "REQUEST_END")
COMPUTE_EVENTS = ("COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END")

log = structlog.get_logger(__name__)


class SpanSink:
    """Makes a trace's spans and sends them in batches to a collector."""

    def __init__(
        self, options: Sequence[tuple[str, str]] = (), *, exporter: SpanExporter | None = None
    ) -> None:
        """Open the way to the collector; nothing is sent yet.

        Args:
            options: `url`, `resource` (KEY=VALUE, several), `bsp_max_queue_size` and
                `bsp_max_export_batch_size` (spans), `bsp_schedule_delay` (milliseconds).
            exporter: OTLP to the url unless given.

        Raises:
            InvalidArgumentError: the url is none that traces could be sent to.
        """
        given = dict(options)
        url = collector_url(given.get("url", DEFAULT_URL))
        self._exporter = exporter or _exporter(url)
        self._forward = _Forward(_without_user(url))
        logging.getLogger("opentelemetry").addHandler(self._forward)
        processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=int(given.get("bsp_max_queue_size", "2048")),
            schedule_delay_millis=int(given.get("bsp_schedule_delay", "5000")),
            max_export_batch_size=int(given.get("bsp_max_export_batch_size", "512")),
        )
        # Not the process's provider, and no exit handler: this object is the owner.
        self._provider = TracerProvider(resource=_resource(options), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("naiad")
        self._propagator = TraceContextTextMapPropagator()

    def parent(self, headers: Mapping[str, str]) -> object | None:
        """The context of the caller's span (W3C `traceparent`, `tracestate`), if it is a valid one."""
        if "traceparent" not in headers:
            return None
        context = self._propagator.extract(headers, Context())
        return context if api.get_current_span(context).get_span_context().is_valid else None

    def write(self, trace: RequestTrace, group: TraceGroup) -> None:  # noqa: ARG002  # spans are not grouped
        """Make the trace's spans; the batch processor sends them."""
        parent = trace.parent if isinstance(trace.parent, Context) else Context()
        root = self._span(trace, "InferRequest", parent, api.SpanKind.SERVER, trace.begun_ns)
        root.set_attributes(_attributes(trace))
        own = {name for name, _ in trace.timestamps}.difference(MODEL_EVENTS, COMPUTE_EVENTS)
        _add_events(root, trace, own)
        times = dict(trace.timestamps)
        if "REQUEST_START" in times:
            self._model_span(trace, root, times)
        elif trace.tensors:
            _add_tensors(root, trace, trace.tensors)
        _end(root, trace, trace.ended_ns)

    def flush(self, group: TraceGroup, *, indexed: bool) -> None:
        """Nothing: the batch processor sends by its own schedule."""

    def close(self) -> None:
        """Send what is left, for at most `CLOSE_LIMIT_S` seconds."""
        # The exporter tries again and again to reach its collector; only its own shutdown interrupts that.
        limit = threading.Timer(CLOSE_LIMIT_S, self._exporter.shutdown)
        limit.start()
        try:
            self._provider.shutdown()
        finally:
            limit.cancel()
            limit.join()
            logging.getLogger("opentelemetry").removeHandler(self._forward)

    def _model_span(self, trace: RequestTrace, root: Span, times: Mapping[str, int]) -> None:
        end = times.get("REQUEST_END", trace.ended_ns)
        model = self._span(
            trace,
            trace.model,
            api.set_span_in_context(root, Context()),
            api.SpanKind.INTERNAL,
            times["REQUEST_START"],
        )
        model.set_attributes(_attributes(trace))
        _add_events(model, trace, MODEL_EVENTS)
        _add_tensors(model, trace, trace.tensors)
        if "COMPUTE_START" in times:
            context = api.set_span_in_context(model, Context())
            start = times["COMPUTE_START"]
            compute = self._span(trace, "compute", context, api.SpanKind.INTERNAL, start)
            _add_events(compute, trace, COMPUTE_EVENTS)
            compute.end(times.get("COMPUTE_END", end) + trace.wall_offset_ns)
        _end(model, trace, end)

    def _span(
        self, trace: RequestTrace, name: str, context: Context, kind: api.SpanKind, start_ns: int
    ) -> Span:
        start = start_ns + trace.wall_offset_ns
        return self._tracer.start_span(name, context, kind=kind, start_time=start)


class _Forward(logging.Handler):
    """Puts what OpenTelemetry logs, such as a collector that does not answer, into our own log."""

    def __init__(self, url: str) -> None:
        super().__init__(logging.WARNING)
        self._url = url

    def emit(self, record: logging.LogRecord) -> None:
        # OpenTelemetry's own text leaves the path out, which is what is wrong where a collector answers 404.
        log.warning(
            "opentelemetry", detail=record.getMessage(), url=self._url, source=record.name, who="operator"
        )


def _attributes(trace: RequestTrace) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "triton.model_name": trace.model,
        "triton.model_version": trace.version,
        "triton.trace_id": trace.id,
        "triton.trace_parent_id": 0,
    }
    if trace.request_id:
        attributes["triton.request_id"] = trace.request_id
    if trace.batch_size:
        attributes |= {"naiad.batch_size": trace.batch_size, "naiad.batch_reason": trace.batch_reason}
    return attributes


def _add_events(span: Span, trace: RequestTrace, names: Sequence[str] | set[str]) -> None:
    for name, ns in trace.timestamps:
        if name in names:
            span.add_event(name, timestamp=ns + trace.wall_offset_ns)


def _add_tensors(span: Span, trace: RequestTrace, tensors: Sequence[TensorRecord]) -> None:
    times = dict(trace.timestamps)
    for kept in tensors:
        at = times.get(
            "QUEUE_START" if kept.activity == "TENSOR_QUEUE_INPUT" else "COMPUTE_END", trace.ended_ns
        )
        attributes: dict[str, AttributeValue] = {
            "name": kept.name,
            "data": kept.data(),
            "shape": kept.shape,
            "dtype": kept.datatype,
            "omitted": kept.omitted,
        }
        span.add_event(kept.activity, attributes, timestamp=at + trace.wall_offset_ns)


def _end(span: Span, trace: RequestTrace, end_ns: int) -> None:
    if trace.error:
        span.set_status(api.Status(api.StatusCode.ERROR, trace.error))
    span.end(end_ns + trace.wall_offset_ns)


def _resource(options: Sequence[tuple[str, str]]) -> Resource:
    """What the spans say of this server: the default, then the environment, then the options."""
    found: dict[str, AttributeValue] = {SERVICE_NAME: DEFAULT_SERVICE}
    found |= OTELResourceDetector().detect().attributes
    for name, value in options:
        if name == "resource":
            key, _, text = value.partition("=")
            found[key] = text
    return Resource.create(found)


def collector_url(text: str) -> str:
    """Where traces go, whole: `http://` where there is no scheme, `/v1/traces` where there is no path.

    Triton's own spelling `localhost:4318/v1/traces` has a path, and gets none beside it.

    Args:
        text: as given: `HOST:PORT`, `HOST:PORT/PATH`, or either after `http://`, `https://`, `grpc://` or
            `grpcs://`.

    Raises:
        InvalidArgumentError: it is no such address.
    """
    parts = _split(text)
    if parts.scheme in _OVER_GRPC or parts.path not in ("", "/"):
        return parts.geturl()
    return parts._replace(path=TRACES_PATH).geturl()


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket without its other half; a port that is no number
        is_address = False
    if not is_address or parts.scheme not in ("http", "https", *_OVER_GRPC):
        raise InvalidArgumentError(
            f"--trace-config opentelemetry,url={text} should be HOST:PORT, http(s)://HOST:PORT/PATH or "
            "grpc(s)://HOST:PORT"
        )
    return parts


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _exporter(url: str) -> SpanExporter:
    """OTLP over HTTP; over gRPC for `grpc://` and, with TLS, `grpcs://`."""
    scheme, _, rest = url.partition("://")
    if scheme in _OVER_GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415  # seldom needed
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(endpoint=rest, insecure=scheme == "grpc")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # slow to import
        OTLPSpanExporter as HttpExporter,
    )

    return HttpExporter(endpoint=url)
