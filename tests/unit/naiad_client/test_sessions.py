"""Open streams of both clients over real sockets: credit, drops, goodbyes, breaks, accounts, ends."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.either_client import either
from support.fake_vision_server import BAD_IMAGE, CREDIT, FakeVisionService, serving

import naiad_client
from naiad_client import Client, aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Either = Client | aio.Client


async def results_of(session: Any) -> list[Any]:
    """The results until the stream is over."""
    if hasattr(session, "__aiter__"):
        return [result async for result in session]
    return await asyncio.to_thread(list, session)


async def exchange(session: Any, count: int, frame: Any = b"x") -> list[Any]:
    """Send so many frames while taking what is ready; then the rest."""
    results = []
    for _ in range(count):
        await either(session.send, frame, timeout=20)
        results += session.ready()
    session.finish()
    return results + await results_of(session)


async def send_many(session: Any, count: int, timeout: float) -> None:  # noqa: ASYNC109 - what is tested
    """Send without taking a result."""
    for _ in range(count):
        await either(session.send, b"x", timeout=timeout)


@pytest.fixture
async def close() -> AsyncIterator[Any]:
    """Cancels a session when the test is over."""
    opened: list[Any] = []

    def keep(session: Any) -> Any:
        opened.append(session)
        return session

    yield keep
    for session in opened:
        await either(session.cancel)


@pytest.mark.parametrize("kind_of_stream", ["detect", "embed", "analyze"])
async def test_each_kind_of_stream_answers_each_frame(
    client: Either, close: Any, kind_of_stream: Any
) -> None:
    session = close(client.open_stream(kind_of_stream))
    results = await exchange(session, 20)
    assert [result.frame_id for result in results] == list(range(20))
    assert all(result.unwrap() for result in results)
    assert results[0].times == naiad_client.FrameTimes(1, 2, 3)
    assert (session.account.sent, session.account.answered, session.account.in_flight) == (20, 20, 0)
    assert (session.model, session.version) == ("only", "1")


async def test_the_contract_is_what_was_asked_for(
    client: Either, close: Any, service: FakeVisionService
) -> None:
    session = close(
        client.open_stream(
            "detect",
            policy="latest",
            max_in_flight=3,
            max_age_ms=40,
            frame_deadline_ms=50,
            tracks=True,
            max_missed=9,
        )
    )
    await exchange(session, 1)
    (opening,) = service.requests
    contract = opening.contract
    assert (contract.policy, contract.order, contract.max_in_flight) == (2, 1, 3)
    assert (contract.max_age_ms, contract.frame_deadline_ms) == (40, 50)
    assert (opening.tracks.max_missed, opening.tracks.first_track_id) == (9, 0)


async def test_without_credit_a_frame_is_refused_before_it_is_encoded(client: Either, close: Any) -> None:
    """A source is called only for frames that are sent; what was not taken is counted."""
    made = 0

    def frame() -> bytes:
        nonlocal made
        made += 1
        return b"x"

    session = close(client.open_stream("detect", model="slow"))
    taken = [await either(session.try_send, frame) for _ in range(3)]
    assert taken.count(True) == made <= 1
    assert session.account.skipped == taken.count(False) >= 2


async def test_sending_waits_for_credit_and_says_so_in_time(kind: type[Either], close: Any) -> None:
    """A server that does not answer has room for one frame, as far as the client knows."""
    with serving(FakeVisionService()) as address:
        pass
    client = kind(address)
    session = close(client.open_stream("detect", retries=1000))
    with pytest.raises(naiad_client.DeadlineExceededError, match="no room for a frame within 0.3 s"):
        await send_many(session, 2, timeout=0.3)
    await either(client.close)


async def test_drops_are_counted_and_the_rest_comes_in_order(client: Either, close: Any) -> None:
    session = close(client.open_stream("detect", policy="latest"))
    results = await exchange(session, 30)
    account = session.account
    assert account.dropped == {"superseded": 10}
    assert (account.answered, account.sent) == (20, 30)
    assert [result.frame_id for result in results] == [number for number in range(30) if number % 3 != 2]


@pytest.mark.parametrize("seed", range(3))
async def test_a_flaky_server_costs_no_frame(
    client: Either, close: Any, service: FakeVisionService, seed: int
) -> None:
    """Goodbyes and breaks at random: every frame is answered once, in order."""
    service.chance.seed(seed)
    session = close(client.open_stream("detect", model="flaky", retries=20))
    results = await exchange(session, 40)
    assert [result.frame_id for result in results] == list(range(40))
    account = session.account
    assert (account.sent, account.answered, account.in_flight, account.dropped) == (40, 40, 0, {})
    assert account.resumed > 3
    assert account.resent > 0


async def test_the_latest_frames_survive_a_flaky_server(client: Either, close: Any) -> None:
    """What came too late for the next stream is counted as dropped on this side."""
    session = close(client.open_stream("detect", model="flaky", policy="latest", retries=20))
    results = await exchange(session, 40)
    account = session.account
    assert account.sent == 40 == account.answered + sum(account.dropped.values())
    ids = [result.frame_id for result in results]
    assert ids == sorted(set(ids))
    assert len(ids) == account.answered


async def test_tracks_go_on_where_they_ended(client: Either, close: Any) -> None:
    """Each face of the fake server is new: with a stream a frame, no number comes twice."""
    session = close(client.open_stream("detect", model="restless", tracks=True))
    results = await exchange(session, 6)
    ids = [face.track_id for result in results for face in result.unwrap().faces]
    assert ids == list(range(1, 13))


async def test_plain_streams_go_on_too(client: Either) -> None:
    """The fake server's "breaks" fails after each frame."""
    if isinstance(client, Client):
        results = await asyncio.to_thread(list, client.stream_detect([b"x"] * 5, model="breaks"))
    else:
        results = [result async for result in client.stream_detect([b"x"] * 5, model="breaks")]
    assert [result.frame_id for result in results] == list(range(5))


async def test_the_caller_s_ids_and_times_come_back(client: Either, close: Any) -> None:
    session = close(client.open_stream("detect"))
    await either(session.send, b"x", frame_id=77, capture_time_us=123)
    await either(session.send, b"x")
    session.finish()
    first, second = await results_of(session)
    assert (first.frame_id, first.capture_time_us, second.frame_id) == (77, 123, 78)


async def test_a_failed_frame_is_counted_and_the_stream_lives_on(client: Either, close: Any) -> None:
    session = close(client.open_stream("analyze"))
    await either(session.send, BAD_IMAGE)
    await either(session.send, np.zeros((4, 4, 3), np.uint8))
    session.finish()
    bad, good = await results_of(session)
    assert isinstance(bad.error, naiad_client.InvalidArgumentError)
    assert good.unwrap().faces[0].embedding.tolist() == [0.75]
    assert (session.account.failed, session.account.answered) == (1, 1)


async def test_a_useless_frame_costs_neither_credit_nor_id(client: Either, close: Any) -> None:
    session = close(client.open_stream("detect"))
    for _ in range(CREDIT + 2):
        with pytest.raises(TypeError):
            await either(session.send, 5, timeout=20)
    with pytest.raises(ValueError, match="takes no faces"):
        await either(session.send, b"x", np.zeros((5, 2)), timeout=20)
    assert [result.frame_id for result in await exchange(session, 3)] == [0, 1, 2]


async def test_leaving_the_block_waits_for_the_answers(client: Either) -> None:
    session: Any = client.open_stream("detect")
    if isinstance(client, Client):
        with session:
            session.send(b"x")
    else:
        async with session:
            await session.send(b"x")
    assert session.account == naiad_client.StreamAccount(sent=1, answered=1)
    with pytest.raises(naiad_client.CancelledError, match="takes no frames"):
        await either(session.send, b"x")


async def test_a_failure_that_nobody_has_seen_is_raised_at_the_end(client: Either) -> None:
    if isinstance(client, Client):
        with pytest.raises(naiad_client.NotFoundError), client.open_stream("detect", model="missing"):
            pass
    else:
        with pytest.raises(naiad_client.NotFoundError):
            async with client.open_stream("detect", model="missing"):
                pass


async def test_a_cancelled_stream_loses_what_is_in_flight(client: Either, service: FakeVisionService) -> None:
    session: Any = client.open_stream("detect", model="slow")
    await either(session.send, b"x")
    await either(session.cancel)
    assert session.account.dropped == {"lost": 1}
    with pytest.raises(naiad_client.CancelledError):
        await results_of(session)


async def test_a_wait_for_the_answers_that_is_cancelled_leaves_no_stream_behind(
    address: str, service: FakeVisionService
) -> None:
    """At the end of the block, too."""
    async with aio.Client(address) as client:
        session = client.open_stream("detect", model="slow")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), session:
                await session.send(b"x")
        assert session.account.dropped == {"lost": 1}
        assert "naiad stream" not in {task.get_name() for task in asyncio.all_tasks()}


@pytest.mark.parametrize("kind_of_client", [Client, aio.Client])
async def test_a_stream_to_whoever_it_finds_fails_as_any_other(kind_of_client: type[Either]) -> None:
    """Mode "auto", nobody there: an error of the client's own kind, and tries as for any stream."""
    with serving(FakeVisionService()) as nobody:
        pass
    client = kind_of_client(nobody, mode="auto", retries=1)
    session: Any = client.open_stream("detect")
    with pytest.raises(naiad_client.UnavailableError):
        await results_of(session)
    assert session.account.resumed == 1
    await either(client.close)


@pytest.mark.parametrize("kind_of_client", [Client, aio.Client])
async def test_finding_out_whom_one_talks_to_counts_against_the_call_s_time(
    kind_of_client: type[Either],
) -> None:
    """Mode "auto", a server that takes connections and says nothing: the call's own timeout holds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = kind_of_client(f"127.0.0.1:{silent.getsockname()[1]}", mode="auto")
        begun = time.monotonic()
        with pytest.raises(naiad_client.DeadlineExceededError):
            await either(client.detect, b"x", timeout=0.1)
        assert time.monotonic() - begun < 5
        await either(client.close)


async def test_closing_the_client_ends_its_streams(client: Either, service: FakeVisionService) -> None:
    """Whoever waits for a result hears of it."""
    session: Any = client.open_stream("detect")
    await either(session.send, b"x", timeout=20)
    await either(session.send, b"x", timeout=20)
    await either(client.close)
    with pytest.raises(naiad_client.CancelledError):
        await results_of(session)


async def test_whoever_takes_no_results_is_told_rather_than_left_waiting(client: Either, close: Any) -> None:
    session = close(client.open_stream("detect"))
    with pytest.raises(
        naiad_client.ResourceExhaustedError, match=r"256 results wait .* take what is ready\(\)"
    ):
        await send_many(session, 1_000, timeout=20)
    assert len(session.ready()) == 256


def test_frames_and_results_may_be_in_two_threads(address: str) -> None:
    with Client(address) as client, client.open_stream("detect") as session:

        def source() -> None:
            for _ in range(100):
                session.send(b"x")
            session.finish()

        thread = threading.Thread(target=source)
        thread.start()
        results = [result.frame_id for result in session]
        thread.join(20)
    assert results == list(range(100))


@pytest.mark.parametrize(
    ("stream", "options", "words"),
    [
        ("embed", {"tracks": True}, "'embed' has no option tracks"),
        ("detect", {"finder": "yunet", "normalize": True}, "no option finder, normalize"),
        ("detect", {"policy": "newest"}, "policy is 'newest'"),
        ("detect", {"order": "ready", "tracks": True}, "order='ready' is not for streams with tracks"),
        ("detect", {"max_in_flight": 0}, "max_in_flight is 0"),
        ("detect", {"max_missed": 3}, "max_missed needs tracks"),
        ("analyze", {"embed_when": "once_a_track"}, "needs tracks=True"),
        ("everything", {}, "kind is 'everything'"),
        ("detect", {"retries": -1}, "retries is -1"),
        ("detect", {"encode": "png"}, "encode is 'png'"),
        ("detect", {"quality": 0}, "quality is 0"),
    ],
)
async def test_options_that_mean_nothing_are_refused_at_once(
    client: Either, stream: Any, options: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        client.open_stream(stream, **options)
