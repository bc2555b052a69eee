"""Bursts of made-up requests over real sockets: each is answered or refused, and the server stays well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fuzz.http_strategies import HttpRequest, http_requests
from fuzz.strategies import infer_requests, wire_messages
from fuzz.wire import ask_http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from fuzz.conftest import Target
    from tritonclient.grpc import service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="package")

quickly = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=200)


@given(request=infer_requests())
@settings(quickly, max_examples=300)
async def test_a_request_is_answered_or_refused(burst: Target, request: pb.ModelInferRequest) -> None:
    """In a status that the protocol has for it."""
    await burst.grpc.infer(request)


@given(message=wire_messages())
@quickly
async def test_bytes_that_may_be_no_message_are_answered_or_refused(burst: Target, message: bytes) -> None:
    """A message that cannot be parsed ends as INTERNAL, `Unable to parse request`."""
    await burst.grpc.send(message)


@given(requests=st.lists(infer_requests(), min_size=1, max_size=6))
@settings(quickly, max_examples=50)
async def test_a_stream_outlives_every_request_on_it(
    burst: Target, requests: list[pb.ModelInferRequest]
) -> None:
    """Each gets its answer, in order, with its id."""
    await burst.grpc.stream(requests)


@given(request=http_requests())
@settings(quickly, max_examples=150)
async def test_an_http_request_is_answered_or_its_connection_closed(
    burst: Target, request: HttpRequest
) -> None:
    """A whole request is answered in HTTP; half of one is given up."""
    await ask_http(burst.server.http_port, request)
