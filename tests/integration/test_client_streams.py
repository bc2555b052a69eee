"""The clients' streams against the real server: contracts, goodbyes, another server in its place."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import DETECTOR_CONFIG, EMBEDDER_CONFIG, brightness_detector, color_embedder

from naiad_client import Client, FaceIn, Finder, aio

if TYPE_CHECKING:
    from pathlib import Path


def grey(value: int) -> Any:
    """A picture whose one face has the score value / 255."""
    return np.full((64, 64, 3), value, np.uint8)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A detector and an embedder."""
    add_model(tmp_path, "detector", brightness_detector(), DETECTOR_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    return tmp_path


async def test_every_frame_is_answered_in_order_with_its_track(repository: Path) -> None:
    """The one face of all frames has one number."""
    async with server(repository) as running, aio.Client(address(running), color="bgr") as client:
        session = client.open_stream("detect", tracks=True, max_in_flight=4)
        results = []
        async with session:
            for value in range(100, 200):
                await session.send(grey(value))
                results += session.ready()
            session.finish()
            results += [result async for result in session]
    assert [result.frame_id for result in results] == list(range(100))
    scores = [result.unwrap().faces[0].score for result in results]
    assert scores == pytest.approx([value / 255 for value in range(100, 200)])
    assert {face.track_id for result in results for face in result.unwrap().faces} == {1}
    assert (session.account.answered, session.model) == (100, "detector")


async def test_the_latest_frames_are_answered_and_all_are_accounted_for(repository: Path) -> None:
    async with server(repository) as running, aio.Client(address(running), color="bgr") as client:
        session = client.open_stream("analyze", policy="latest", max_in_flight=1, tracks=True)
        results = []
        async with session:
            for _ in range(200):
                await session.try_send(grey(200))
                results += session.ready()
                await asyncio.sleep(0)
            await session.send(grey(200))
            session.finish()
            results += [result async for result in session]
    account = session.account
    assert account.sent + account.skipped == 201
    assert account.sent == account.answered + sum(account.dropped.values())
    assert account.answered == len(results) > 0
    assert results[-1].unwrap().faces[0].embedding is not None


async def test_a_stream_outlives_its_server(repository: Path) -> None:
    """The server stops while frames come; another one takes its port, and every frame is answered once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results: list[int] = []
    some, more, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def feed(session: Any) -> None:
        while not stop.is_set():
            await session.send(grey(99))
        session.finish()

    async def take(session: Any) -> None:
        async for result in session:
            assert result.unwrap().faces[0].track_id
            results.append(result.frame_id)
            if len(results) == 20:
                some.set()
            if session.account.resumed and len(results) > 40:
                more.set()

    async with aio.Client(f"127.0.0.1:{port}", color="bgr", retries=50) as client:
        async with server(repository, grpc_port=port):
            session = client.open_stream("detect", tracks=True, max_in_flight=4)
            tasks = [asyncio.create_task(work(session)) for work in (feed, take)]
            await some.wait()
        async with server(repository, grpc_port=port):
            await more.wait()
            stop.set()
            await asyncio.gather(*tasks)
    assert results == list(range(session.account.sent))
    assert session.account.resumed >= 1


async def test_faces_are_analyzed_and_compared_by_the_real_models(repository: Path) -> None:
    async with server(repository) as running:
        place = address(running)

        def ask() -> tuple[Any, Any, Any]:
            with Client(place, color="bgr") as client:
                analyzed = client.analyze(grey(200), finder=Finder(max_faces=1))
                found = client.embed(grey(200), finder="detector")
                face = FaceIn(grey(200), analyzed.faces[0])
                return analyzed, found, client.compare(grey(200), face)

        analyzed, found, compared = await asyncio.to_thread(ask)
    assert (analyzed.detector, analyzed.embedder) == ("detector", "embedder")
    np.testing.assert_allclose(analyzed.faces[0].embedding, found.embeddings[0], atol=1e-4)
    assert found.faces[0].score == pytest.approx(200 / 255)
    assert compared.similarity == pytest.approx(1, abs=1e-4)
    assert compared.first is not None
