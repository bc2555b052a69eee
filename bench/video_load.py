"""Streams of JPEG frames to a server (`python -m bench.video_load`): messages made once, answers not read."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import grpc
from bench.meter import Window, read
from bench.processes import answer, questions
from bench.video_cases import VideoCase

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

_METHOD = "/naiad.vision.v1.VisionService/StreamDetect"


class Camera:
    """One stream that has `in_flight` frames under way for as long as it runs."""

    def __init__(self, channel: grpc.aio.Channel, case: VideoCase, messages: list[bytes]) -> None:
        self._call = channel.stream_stream(_METHOD, None, None)(None)
        options = pb.StreamDetectOptions(model_name=case.model)
        self._opening = pb.StreamDetectRequest(options=options).SerializeToString()
        self._messages = messages

    async def run(self, in_flight: int, stop: asyncio.Event, finished: list[tuple[int, int]]) -> None:
        """Send a frame for each that is answered; RuntimeError if one is answered with an error."""
        await self._call.write(self._opening)
        messages = itertools.cycle(self._messages)
        sent: list[int] = []
        for _ in range(in_flight):
            await self._send(next(messages), sent)
        while not stop.is_set():
            _check(await self._call.read())
            finished.append((sent.pop(0), time.perf_counter_ns()))
            await self._send(next(messages), sent)
        await self._call.done_writing()
        while isinstance(await self._call.read(), bytes):
            pass

    async def _send(self, message: bytes, sent: list[int]) -> None:
        sent.append(time.perf_counter_ns())
        await self._call.write(message)


def _check(received: Any) -> None:
    if not isinstance(received, bytes):
        raise TypeError("the stream ended")
    if b"\x22" in received[:1]:  # field 4, the error, where a frame of id 0 and time 0 has nothing before it
        raise RuntimeError(pb.StreamDetectResponse.FromString(received).error.message)


def frame_messages(jpegs: Iterable[bytes]) -> list[bytes]:
    """The frames as serialized messages of a stream."""
    return [
        pb.StreamDetectRequest(frame=pb.Frame(image=pb.Image(encoded=jpeg))).SerializeToString()
        for jpeg in jpegs
    ]


async def measure(
    case: VideoCase, address: str, pid: int, *, streams: int, in_flight: int, ramp_s: float, window_s: float
) -> dict[str, Any]:
    """A window of so many streams, each with so many frames in flight, and what the server's process took."""
    stop, finished = asyncio.Event(), list[tuple[int, int]]()
    messages = frame_messages(case.jpegs())
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as cameras:
        for _ in range(streams):
            cameras.create_task(Camera(channel, case, messages).run(in_flight, stop, finished))
        await asyncio.sleep(ramp_s)
        first = read(pid)
        await asyncio.sleep(window_s)
        last = read(pid)
        stop.set()
    return asdict(Window.between(first, last, finished))


def _main() -> None:
    with asyncio.Runner() as runner:
        for question in questions():
            case = VideoCase(**question.pop("case"))
            answer(runner.run(measure(case, **question)))


if __name__ == "__main__":
    _main()
