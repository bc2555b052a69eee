"""Real OpenTelemetry collectors of a test's own: OTLP over HTTP and over gRPC, on free ports of loopback."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What has been received, and where to send it."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[pb.ExportTraceServiceRequest] = []

    @property
    def spans(self) -> dict[str, Span]:
        """Every span, by name."""
        scopes = [
            scope for one in self.received for group in one.resource_spans for scope in group.scope_spans
        ]
        return {span.name: span for scope in scopes for span in scope.spans}

    @property
    def resource(self) -> dict[str, str]:
        """What the spans say of their server."""
        attributes = self.received[0].resource_spans[0].resource.attributes
        return {attribute.key: attribute.value.string_value for attribute in attributes}


@contextmanager
def http_collector() -> Iterator[Collector]:
    """A collector for OTLP over HTTP."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                collector.received.append(pb.ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_collector() -> Iterator[Collector]:
    """A collector for OTLP over gRPC."""
    collector = Collector()

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(  # noqa: N802  # the protocol's name
            self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
        ) -> pb.ExportTraceServiceResponse:
            collector.received.append(request)
            return pb.ExportTraceServiceResponse()

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]  # generated
        collector.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield collector
        finally:
            server.stop(None).wait()
