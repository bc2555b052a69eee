"""`/metrics` of real models, asked over its own port as Prometheus asks."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import re
import socket
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model

from naiad.core.clock import MonotonicClock
from naiad.core.errors import UnavailableError
from naiad.core.tensors import InferRequest
from naiad.lifecycle.loading import RepositoryLoader
from naiad.lifecycle.manager import ModelManager
from naiad.repository.layout import scan
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget
from naiad.services import metrics
from naiad.services.http import HttpSettings
from naiad.services.metrics import MetricsServer, statistics_factory
from naiad.services.metrics_view import ManagerView
from naiad.telemetry.metrics import MetricsSettings, metrics_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.core.tensors import Array
    from naiad.telemetry.metrics import (
        AsideView,
        ExperimentView,
        ModelState,
        RoomView,
        StreamsView,
        VersionState,
        VersionView,
    )

QUEUE, BUSY = 100, 2
"""Requests that may wait, and those that two instances have taken meanwhile, one each."""

BATCHING = ADD_SUB_CONFIG + "\ndynamic_batching {}\n"
LABELS = 'model="simple",version="1"'


@asynccontextmanager
async def metrics_of(
    repository: Path, settings: MetricsSettings | None = None, *, port: int = 0
) -> AsyncIterator[tuple[ModelManager, int]]:
    """The repository's models, loaded, and the port that shows their metrics."""
    settings = settings or MetricsSettings()
    loader = RepositoryLoader(
        OrtEnvironment.detect(), CpuBudget(2, "of the test"), auto_complete=True, default_max_batch_size=4
    )
    manager = ModelManager(
        loader,
        clock=MonotonicClock(),
        max_queue_size=QUEUE,
        load_threads=2,
        new_statistics=statistics_factory(settings),
    )
    server = MetricsServer("127.0.0.1", port, view=ManagerView(manager), settings=settings)
    try:
        await manager.load_all(scan([repository]).models)
        yield manager, await server.start()
    finally:
        await server.stop()
        await manager.close()


async def ask(
    port: int, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[int, str, bytes]:
    """Status, content type and body."""

    def call() -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(
                method, path, headers={key.replace("_", "-"): value for key, value in headers.items()}
            )
            answer = connection.getresponse()
            return answer.status, answer.headers.get("content-type", ""), answer.read()
        finally:
            connection.close()

    return await asyncio.to_thread(call)


async def lines(port: int) -> list[str]:
    return (await ask(port))[2].decode().splitlines()


def request(rows: int = 1) -> InferRequest:
    inputs: dict[str, Array] = {name: np.ones((rows, 16), np.int32) for name in ("INPUT0", "INPUT1")}
    return InferRequest("simple", None, inputs, batch_size=rows)


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    add_model(tmp_path, "simple", add_sub(), BATCHING)
    return tmp_path


async def test_counters_begin_at_zero_and_follow_the_requests(simple: Path) -> None:
    async with metrics_of(simple) as (manager, port):
        before = await lines(port)
        assert f"nv_inference_request_success{{{LABELS}}} 0" in before
        assert 'nv_inference_request_failure{model="simple",reason="BACKEND",version="1"} 0' in before
        assert f"nv_inference_exec_count{{{LABELS}}} 0" in before  # warm-up does not count
        with manager.acquire("simple", None) as handle:
            await handle.submit(request(3))
            await handle.submit(request(1))
        after = await lines(port)
    for line in (
        f"nv_inference_request_success{{{LABELS}}} 2",
        f"nv_inference_count{{{LABELS}}} 4",
        f"nv_inference_exec_count{{{LABELS}}} 2",
        'naiad_requests_total{model="simple",outcome="success",version="1"} 2.0',
        f"naiad_request_duration_seconds_count{{{LABELS}}} 2.0",
        f"naiad_batch_size_sum{{{LABELS}}} 4.0",
        f"naiad_model_ready{{{LABELS}}} 1.0",
        f"naiad_queue_size{{{LABELS}}} 0.0",
    ):
        assert line in after
    values = dict(line.rsplit(" ", 1) for line in after if not line.startswith("#"))
    assert int(values[f"nv_inference_request_duration_us{{{LABELS}}}"]) > 0
    assert float(values[f"nv_model_load_duration_secs{{{LABELS}}}"]) > 0


async def test_a_full_queue_is_no_failure_but_visible(simple: Path) -> None:
    """What Triton does not count as a failure is counted beside it."""
    async with metrics_of(simple) as (manager, port):
        with manager.acquire("simple", None) as handle:
            # Nothing is answered before the loop is left to run: two run, a hundred wait.
            answers = [handle.submit(request()) for _ in range(QUEUE + BUSY)]
            with pytest.raises(UnavailableError, match="maximum queue size"):
                handle.submit(request())
            await asyncio.gather(*answers)
        shown = await lines(port)
    assert 'naiad_requests_refused_total{model="simple",reason="queue_full",version="1"} 1.0' in shown
    assert f"nv_inference_request_success{{{LABELS}}} {len(answers)}" in shown
    assert not [line for line in shown if line.startswith("nv_inference_request_failure") and line[-1] != "0"]


async def test_the_config_sets_labels_and_buckets(tmp_path: Path) -> None:
    extra = """
    metric_tags { key: "team" value: "vision" }
    model_metrics { metric_control {
      metric_identifier { family: "nv_inference_first_response_histogram_ms" }
      histogram_options { buckets: [ 1, 0.5 ] }
    } }
    """
    add_model(tmp_path, "simple", add_sub(), BATCHING + extra)
    settings = metrics_settings(["histogram_latencies=true", "summary_latencies=true"])
    async with metrics_of(tmp_path, settings) as (_, port):
        shown = "\n".join(await lines(port))
    tagged = f'_team="vision",{LABELS}'
    assert re.findall(r"first_response_histogram_ms_bucket{(.*)} 0", shown) == [
        f'{tagged},le="{bound}"' for bound in ("0.5", "1", "+Inf")
    ]
    assert f'nv_inference_queue_summary_us{{{tagged},quantile="0.99"}} Nan' in shown


async def test_a_model_that_does_not_load_is_shown_as_missing(simple: Path) -> None:
    add_model(simple, "unreadable", b"no graph", "max_batch_size: ?")
    add_model(simple, "broken", b"no graph", ADD_SUB_CONFIG)
    async with metrics_of(simple) as (_, port):
        shown = [line for line in await lines(port) if line.startswith("naiad_model_ready{")]
    assert sorted(shown) == [
        'naiad_model_ready{model="broken",version="1"} 0.0',
        'naiad_model_ready{model="simple",version="1"} 1.0',
        'naiad_model_ready{model="unreadable",version=""} 0.0',
    ]


async def test_scrapers_get_the_format_and_encoding_that_they_ask_for(simple: Path) -> None:
    async with metrics_of(simple) as (_, port):
        plain = await ask(port)
        opened = await ask(port, Accept="application/openmetrics-text; version=1.0.0")
        zipped = await ask(port, Accept_Encoding="gzip")
    assert plain[:2] == (HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8")
    assert opened[:2] == (HTTPStatus.OK, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    plain_names = {family.name for family in text_string_to_metric_families(plain[2].decode())}
    read_again = parse_openmetrics(opened[2].decode())  # type: ignore[no-untyped-call]  # its module has no types
    assert {family.name for family in read_again} == plain_names
    unzipped = text_string_to_metric_families(gzip.decompress(zipped[2]).decode())
    assert {family.name for family in unzipped} == plain_names


async def test_there_is_nothing_else_on_the_port(simple: Path) -> None:
    async with metrics_of(simple) as (_, port):
        assert [(await ask(port, path))[0] for path in ("/", "/v2", "/metrics/x")] == [
            HTTPStatus.NOT_FOUND
        ] * 3
        assert (await ask(port, method="POST"))[0] == HTTPStatus.METHOD_NOT_ALLOWED


async def test_many_scrapes_at_once_are_all_answered(simple: Path) -> None:
    async with metrics_of(simple) as (_, port):
        answers = await asyncio.gather(*(ask(port) for _ in range(20)))
    assert [status for status, _, _ in answers] == [HTTPStatus.OK] * 20


async def test_a_taken_port_is_named_with_its_flags(simple: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError) as caught:
            async with metrics_of(simple, port=port):
                pass
    expected = (
        f"cannot listen on 127.0.0.1:{port} (--metrics-address, --metrics-port): Address already in use"
    )
    assert caught.value.message == expected


@pytest.mark.parametrize("address", ["no such host", "x" * 70])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    server = MetricsServer(address, 0, view=_Nothing(), settings=MetricsSettings())
    with pytest.raises(UnavailableError, match="--metrics-address"):
        await server.start()
    await server.stop()


async def test_a_stopped_server_frees_its_port_and_its_thread(simple: Path) -> None:
    """Even while a connection is kept open."""
    async with metrics_of(simple) as (_, port):
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        await asyncio.to_thread(kept.request, "GET", "/metrics")
        assert (await asyncio.to_thread(kept.getresponse)).status == HTTPStatus.OK
    with socket.create_server(("127.0.0.1", port)):
        pass
    kept.close()


class _Nothing:
    """A server without models."""

    def versions(self) -> tuple[VersionView, ...]:
        return ()

    def states(self) -> tuple[VersionState, ...]:
        return ()

    def models(self) -> tuple[ModelState, ...]:
        return ()

    def streams(self) -> tuple[StreamsView, ...]:
        return ()

    def rooms(self) -> tuple[RoomView, ...]:
        return ()

    def experiments(self) -> tuple[ExperimentView, ...]:
        return ()

    def aside(self) -> AsideView | None:
        return None


async def test_a_head_without_end_is_refused(simple: Path) -> None:
    async with metrics_of(simple) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                writer.write(b"a: b\r\n" * 10_000)
                await writer.drain()
        assert b"HTTP/1.1 431" in await reader.read()
        await abort(writer)


async def test_connections_that_ask_nothing_do_not_keep_a_scraper_out(
    simple: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = HttpSettings(max_connections=4, keep_alive_s=0.5, stall_s=0.5)
    monkeypatch.setattr(metrics, "_BOUNDS", bounds)
    async with metrics_of(simple) as (_, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        held[0][1].write(b"GET /metrics HTTP/1.1\r\nHo")
        assert (await ask(port))[0] == HTTPStatus.SERVICE_UNAVAILABLE
        for reader, _ in held:
            await reader.read()  # until it is closed
        assert (await ask(port))[0] == HTTPStatus.OK
        for _, writer in held:
            await abort(writer)


async def abort(writer: asyncio.StreamWriter) -> None:
    """Close the connection and its socket, whatever is still to be written."""
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
