"""Streams with a contract on a real port: what becomes of frames that come faster than their model."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.frame_streams import BROKEN, GREY, DetectStream, dropped, every, latest
from support.gates import RunGate
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import DETECTOR_CONFIG, EMBEDDER_CONFIG, brightness_detector, color_embedder

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer

ALONE = DETECTOR_CONFIG.replace("dynamic_batching { max_queue_delay_microseconds: 2000 }", "")
"""The detector, a frame a run."""
ONE, TWO = (f"instance_group {{ count: {count} kind: KIND_CPU }}" for count in (1, 2))

ODD: Any = 9
"""A number that no enumeration has."""
DEADLINE_EXCEEDED: int = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


@contextlib.asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[tuple[NaiadServer, grpc.aio.Channel]]:
    async with (
        server(folder, max_inline_run_us=0, **settings) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
    ):
        yield running, channel


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_model(tmp_path, "detector", brightness_detector(), ALONE + ONE)
    return tmp_path


@pytest.fixture(params=["naiad", "grpcio"])
async def channel(repository: Path, request: pytest.FixtureRequest) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(repository, grpc_transport=request.param, stream_max_in_flight=64) as (_, channel):
        yield channel


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> RunGate:
    return RunGate(monkeypatch)


async def test_a_stream_is_told_its_contract_first_and_what_became_of_it_last(
    channel: grpc.aio.Channel,
) -> None:
    stream = await DetectStream(channel, pb.StreamContract()).open()
    opened = await stream.read("opened")
    assert (opened.opened.model.name, opened.opened.model.version) == ("detector", "1")
    assert opened.opened.contract == pb.StreamContract(
        policy=pb.FRAME_POLICY_EVERY_FRAME, order=pb.RESULT_ORDER_FRAMES, max_in_flight=64
    )
    assert opened.account.credit_limit == 64
    await stream.send()
    answer = await stream.read("result")
    assert (answer.frame_id, answer.capture_time_us, answer.account.credit_limit) == (1, -1, 65)
    assert answer.result.model.version == "1"
    times = answer.account.times
    assert 0 < times.received_us <= times.begun_us <= times.answered_us
    await stream.send(image=BROKEN)
    assert (await stream.read("error")).account.times.answered_us > times.answered_us
    [closed] = await stream.rest()
    assert closed.closed == pb.StreamClosed(frames_received=2, frames_answered=1, frames_failed=1)
    assert await stream.call.code() is grpc.StatusCode.OK


async def test_the_latest_frame_is_the_one_that_is_begun_with_and_the_others_are_told_of(
    channel: grpc.aio.Channel, gate: RunGate
) -> None:
    """Ten frames while one runs: the tenth is next, and the eight between were never decoded."""
    stream = await DetectStream(channel, latest()).open()
    assert (await stream.read("opened")).account.credit_limit == 2
    gate.shut()
    await stream.send(10)
    told: list[pb.StreamDetectResponse] = []
    while len(dropped(told, pb.DROP_REASON_SUPERSEDED)) < 8:
        told.append(await stream.read(None))  # it has used up its credit, and has more with each drop
    assert dropped(told, pb.DROP_REASON_SUPERSEDED) == list(range(2, 10))
    assert told[-1].account.credit_limit == 10
    gate.let_one_go()
    assert (await stream.read("result")).frame_id == 1
    gate.open()
    last, closed = await stream.rest()
    assert last.frame_id == 10
    assert not last.account.dropped
    assert closed.closed == pb.StreamClosed(frames_received=10, frames_answered=2, frames_dropped=8)


async def test_every_frame_is_answered_in_order_and_the_client_is_held_back(
    channel: grpc.aio.Channel, gate: RunGate
) -> None:
    """More frames than the windows hold: the client's writes stop, and end once the model goes on."""
    stream = await DetectStream(channel, every(2)).open()
    await stream.read("opened")
    gate.shut()
    padded = GREY + bytes(600_000)  # what follows a PNG's end is nothing to its decoder
    sending = asyncio.ensure_future(stream.send(60, padded))
    begun, _ = await asyncio.wait([sending], timeout=1)
    assert not begun
    assert stream.sent < 60
    gate.open()
    answers = [await stream.read("result") for _ in range(60)]
    await sending
    assert [answer.frame_id for answer in answers] == list(range(1, 61))
    assert [answer.account.credit_limit for answer in answers] == list(range(3, 63))
    [closed] = await stream.rest()
    assert closed.closed == pb.StreamClosed(frames_received=60, frames_answered=60)


@pytest.mark.parametrize(("order", "first"), [("READY", 2), ("FRAMES", 1)])
async def test_results_come_as_they_are_there_if_that_is_asked_for(
    tmp_path: Path, gate: RunGate, order: str, first: int
) -> None:
    """A frame that cannot be decoded is told of before, or after, the one that its model still runs."""
    add_model(tmp_path, "detector", brightness_detector(), ALONE + TWO)
    async with serving(tmp_path) as (_, channel):
        contract = every(4, order=pb.ResultOrder.Value(f"RESULT_ORDER_{order}"))
        stream = await DetectStream(channel, contract).open()
        await stream.read("opened")
        gate.shut()
        await stream.send()
        await stream.send(image=BROKEN)
        reading = asyncio.ensure_future(stream.read("error" if first == 2 else "result"))
        if order == "READY":
            await reading
        gate.open()
        assert (await reading).frame_id == first
        assert len(await stream.rest()) == 2


async def test_a_frame_that_is_not_answered_in_time_is_an_error_and_the_stream_lives_on(
    channel: grpc.aio.Channel, gate: RunGate
) -> None:
    """One that runs and one that waits."""
    stream = await DetectStream(channel, every(4, frame_deadline_ms=300)).open()
    await stream.read("opened")
    gate.shut()
    await stream.send(2)
    for number in (1, 2):
        late = await stream.read("error")
        assert (late.frame_id, late.capture_time_us, late.error.code) == (number, -number, DEADLINE_EXCEEDED)
    gate.open()
    rest = await stream.rest()
    assert rest[-1].closed == pb.StreamClosed(frames_received=2, frames_failed=2)


async def test_a_frame_that_waits_too_long_for_its_turn_is_told_of_though_nothing_else_is(
    channel: grpc.aio.Channel, gate: RunGate
) -> None:
    """Another stream holds the room: no result of its own will carry the drop."""
    holding = await DetectStream(channel, every()).open()
    await holding.read("opened")
    gate.shut()
    await holding.send(2)
    lone = await DetectStream(channel, latest(max_age_ms=50)).open()
    await lone.read("opened")
    await lone.send()
    told = await lone.read(None)
    assert dropped([told], pb.DROP_REASON_TOO_OLD) == [1]
    assert told.account.credit_limit == 3
    gate.open()
    [closed] = await lone.rest()
    assert closed.closed == pb.StreamClosed(frames_received=1, frames_dropped=1)
    assert len(await holding.rest()) == 3


async def test_a_drain_answers_what_was_read_and_says_what_that_was(repository: Path, gate: RunGate) -> None:
    async with contextlib.AsyncExitStack() as stack:
        running, channel = await stack.enter_async_context(serving(repository))
        stream = await DetectStream(channel, every(2), tracks=pb.TrackOptions(first_track_id=5)).open()
        await stream.read("opened")
        gate.shut()
        await stream.send(2)
        other = await DetectStream(channel).open()
        await other.send()
        closing = asyncio.ensure_future(running.__aexit__(None, None, None))
        goaway = (await stream.read("goaway")).goaway
        assert (goaway.frames_received, goaway.next_track_id) == (2, 5)
        assert goaway.retry_after_ms > 0
        gate.open()
        assert [(await stream.read("result")).frame_id for _ in range(2)] == [1, 2]
        closed = (await stream.read("closed")).closed
        assert closed == pb.StreamClosed(frames_received=2, frames_answered=2, next_track_id=6)
        assert (await other.next()) is not None  # without a contract: the result of its frame, and no more
        for each in (stream, other):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await each.next()
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await closing


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"contract": every(65)}, "RESOURCE_EXHAUSTED", "is 65, the limit is 64 (--stream-max-in-flight)"),
        ({"contract": pb.StreamContract(policy=ODD)}, "INVALID_ARGUMENT", "contract.policy is 9"),
        ({"contract": pb.StreamContract(order=ODD)}, "INVALID_ARGUMENT", "contract.order is 9"),
        (
            {"contract": every(order=pb.RESULT_ORDER_READY), "tracks": pb.TrackOptions()},
            "INVALID_ARGUMENT",
            "contract.order is READY and 'tracks' is set",
        ),
        ({"contract": every(), "model_name": "nope"}, "NOT_FOUND", "unknown model: 'nope'"),
        ({"contract": every(), "model_version": "7"}, "NOT_FOUND", "7"),
    ],
)
async def test_options_are_refused_before_a_frame_is_sent(
    repository: Path, options: dict[str, Any], code: str, words: str
) -> None:
    async with serving(repository, stream_max_in_flight=64) as (_, channel):
        stream = await DetectStream(channel, **options).open()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stream.call.read()
        assert raised.value.code().name == code
        assert words in str(raised.value.details())


async def test_faces_keep_their_numbers_from_frame_to_frame(channel: grpc.aio.Channel) -> None:
    """The detector finds its face in the same place; several frames are in flight."""
    stream = await DetectStream(channel, every(8), tracks=pb.TrackOptions(first_track_id=41)).open()
    await stream.read("opened")
    await stream.send(20)
    await stream.send(image=BROKEN)
    await stream.send(5)
    *answers, closed = await stream.rest()
    ids = [answer.result.faces[0].track_id for answer in answers if answer.HasField("result")]
    assert ids == [41] * 25
    assert closed.closed.next_track_id == 42


@pytest.mark.parametrize(
    ("tracks", "when", "embedded", "reused"),
    [
        (None, pb.EMBED_WHEN_UNSPECIFIED, 6, 0),
        (pb.TrackOptions(), pb.EMBED_WHEN_EVERY_FACE, 6, 0),
        (pb.TrackOptions(), pb.EMBED_WHEN_ONCE_A_TRACK, 1, 5),
    ],
)
async def test_a_stream_finds_and_embeds(
    tmp_path: Path, tracks: pb.TrackOptions | None, when: pb.EmbedWhen.ValueType, embedded: int, reused: int
) -> None:
    add_model(tmp_path, "detector", brightness_detector(), DETECTOR_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    async with serving(tmp_path) as (_, channel):
        call = vision_pb2_grpc.VisionServiceStub(channel).StreamAnalyze(
            iter(analysis(6, contract=every(4), tracks=tracks, embed_when=when))
        )
        opened, *answers, closed = [response async for response in call]
    assert (opened.opened.model.name, opened.opened.embedder.name) == ("detector", "embedder")
    for answer in answers:
        [face] = answer.result.faces
        assert list(face.embedding.values) == pytest.approx([51, 51, 51], abs=5)
        assert face.HasField("track_id") == (tracks is not None)
        reuses = answer.result.reused == 1
        assert face.HasField("embedding_frame_id") == reuses
        assert not reuses or face.embedding_frame_id < answer.frame_id
    assert [answer.frame_id for answer in answers] == list(range(1, 7))
    assert (closed.closed.embedded, closed.closed.reused) == (embedded, reused)


def analysis(count: int, **options: Any) -> list[pb.StreamAnalyzeRequest]:
    frames = (pb.Frame(frame_id=number, image=pb.Image(encoded=GREY)) for number in range(1, count + 1))
    return [
        pb.StreamAnalyzeRequest(options=pb.StreamAnalyzeOptions(**options)),
        *(pb.StreamAnalyzeRequest(frame=frame) for frame in frames),
    ]


async def test_embedding_once_a_track_needs_tracks(tmp_path: Path) -> None:
    add_model(tmp_path, "detector", brightness_detector(), DETECTOR_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    async with serving(tmp_path) as (_, channel):
        messages = analysis(0, embed_when=pb.EMBED_WHEN_ONCE_A_TRACK)
        with pytest.raises(grpc.aio.AioRpcError, match="ONCE_A_TRACK and 'tracks' is not set"):
            await vision_pb2_grpc.VisionServiceStub(channel).StreamAnalyze(iter(messages)).read()


class Flood:
    """Streams that always have as many frames with the server as they may have in flight."""

    def __init__(self, channel: grpc.aio.Channel, limits: list[int]) -> None:
        self.answered = [0] * len(limits)
        self._limits = limits
        self._channel = channel
        self._news = asyncio.Condition()
        self._sent = [0] * len(limits)

    async def run(self, index: int) -> None:
        """One of the streams, until it is cancelled."""
        stream = await DetectStream(self._channel, every(self._limits[index])).open()
        await stream.read("opened")
        try:
            while True:
                await stream.send(self._limits[index] - (self._sent[index] - self.answered[index]))
                async with self._news:
                    self._sent[index] = stream.sent
                    self._news.notify_all()
                await stream.read("result")
                async with self._news:
                    self.answered[index] += 1
                    self._news.notify_all()
        finally:
            stream.call.cancel()

    async def all_wait(self) -> None:
        """Wait until the server has all that it may have."""
        async with self._news:
            await self._news.wait_for(
                lambda: all(
                    sent - answered == limit
                    for sent, answered, limit in zip(self._sent, self.answered, self._limits, strict=True)
                )
            )
        for _ in range(2):  # what follows on the connection is answered when that has been read
            await health_pb2_grpc.HealthStub(self._channel).Check(health_pb2.HealthCheckRequest())

    async def next_answer(self, before: int) -> None:
        """Wait until more than so many frames were answered."""
        async with self._news:
            await self._news.wait_for(lambda: sum(self.answered) > before)


async def test_fifty_streams_share_a_model_fairly_whatever_they_have_in_flight(
    channel: grpc.aio.Channel, gate: RunGate
) -> None:
    """One has 64 frames in flight and the others one, and the model is what all wait for: Jain's index."""
    flood = Flood(channel, [64] + [1] * 49)
    gate.shut()
    tasks = [asyncio.ensure_future(flood.run(index)) for index in range(50)]
    for count in range(400):
        await flood.all_wait()
        gate.let_one_go()
        await flood.next_answer(count)
    counts = list(flood.answered)
    for task in tasks:
        task.cancel()
    gate.open()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(counts) ** 2 / (50 * sum(count * count for count in counts)) > 0.95


async def test_a_client_that_stops_reading_stalls_nobody_else(channel: grpc.aio.Channel) -> None:
    """It sends for as long as it can, which is not for ever: its own stream is read no further."""
    deaf = await DetectStream(channel, every(8)).open()
    sending = asyncio.ensure_future(deaf.send(1_000_000))
    other = await DetectStream(channel, every(2)).open()
    await other.read("opened")
    writing = asyncio.ensure_future(other.send(300))
    for number in range(1, 301):
        assert (await other.read("result")).frame_id == number
    await writing
    assert not sending.done()
    sending.cancel()
    deaf.call.cancel()
    assert (await other.rest())[-1].closed.frames_answered == 300


async def test_each_frame_has_the_version_that_serves_when_it_is_begun_with(
    tmp_path: Path,
) -> None:
    """A new version takes over in the middle of a stream, and the old one can leave."""
    folder = add_model(tmp_path, "detector", brightness_detector(), ALONE + ONE)
    async with serving(tmp_path, model_control_mode="explicit", load_model=["*"]) as (running, channel):
        stream = await DetectStream(channel, every(4)).open()
        await stream.read("opened")
        await stream.send()
        assert (await stream.read("result")).result.model.version == "1"
        (folder / "2").mkdir()
        (folder / "2" / "model.onnx").write_bytes(brightness_detector().SerializeToString())
        await running.manager.load("detector")
        await stream.send(2)
        for _ in range(2):
            assert (await stream.read("result")).result.model.version == "2"
        assert (await stream.rest())[-1].closed.frames_answered == 3


async def test_a_stream_that_names_no_model_keeps_the_one_it_was_opened_with(tmp_path: Path) -> None:
    """A second detector makes the name missing in new streams, and is nothing to those that are open."""
    folder = tmp_path / "models"
    add_model(folder, "detector", brightness_detector(), ALONE + ONE)
    async with serving(folder, model_control_mode="explicit", load_model=["*"]) as (running, channel):
        stream = await DetectStream(channel, every()).open()
        assert (await stream.read("opened")).opened.model.name == "detector"
        add_model(folder, "another", brightness_detector(), ALONE + ONE)
        await running.manager.load("another")
        await stream.send()
        assert (await stream.read("result")).result.model.name == "detector"
        await stream.rest()
        refused = await DetectStream(channel, every()).open()
        with pytest.raises(grpc.aio.AioRpcError, match="there are 2 detectors"):
            await refused.next()
