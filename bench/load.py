"""Our own load, in one process: closed loops, and an open loop that counts from when a request was due.

Closed loop: each of N requests in flight is sent when the one before it was answered. Open loop: requests are
sent at the times of `bench.arrivals`, whatever the server does; a latency begins at the intended time, so a
server that stops for a second is charged with every request of that second (no coordinated omission).
Requests are serialised once and answers are not parsed: what this process takes of the CPUs stays small.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import numpy as np
from bench.arrivals import percentiles, poisson_offsets_ns
from bench.cases import FRAMES, Case
from bench.meter import Reading, Window, read
from bench.processes import answer, questions
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

import naiad_client.aio
from naiad.core.errors import NaiadError
from naiad.demo.media import video_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SERVICE = "/inference.GRPCInferenceService/"
_ERROR_TAG = b"\x0a"
"""A ModelStreamInferResponse that begins with this has an error message in it."""
_DRAIN_LIMIT_S = 10.0
"""An open loop's requests that are not answered this long after the last one are errors."""
_SPARE_SLEEP_S = 50e-6
"""A sleeping thread wakes up about this late."""

Finished = list[tuple[int, int]]


class Caller(Protocol):
    """Keeps one request in flight until told to stop."""

    async def __call__(self, stop: asyncio.Event, finished: Finished) -> None:
        """Append (start, end) of each request, nanoseconds of `perf_counter_ns`.

        A request that fails raises.
        """
        ...


class TensorCaller:
    """ModelInfer with the bytes of one request made once."""

    def __init__(self, channel: grpc.aio.Channel, request: bytes) -> None:
        self.infer = channel.unary_unary(_SERVICE + "ModelInfer", None, None)
        self.request = request

    async def __call__(self, stop: asyncio.Event, finished: Finished) -> None:
        """Infer again and again."""
        while not stop.is_set():
            start = time.perf_counter_ns()
            await self.infer(self.request)
            finished.append((start, time.perf_counter_ns()))


class TensorStreamCaller:
    """ModelStreamInfer: one stream, a request sent when the last was answered."""

    def __init__(self, channel: grpc.aio.Channel, request: bytes) -> None:
        self._stream = channel.stream_stream(_SERVICE + "ModelStreamInfer", None, None)
        self._request = request

    async def __call__(self, stop: asyncio.Event, finished: Finished) -> None:
        """Infer again and again; RuntimeError if an answer is an error."""
        call = self._stream(None)
        while not stop.is_set():
            start = time.perf_counter_ns()
            await call.write(self._request)
            received = await call.read()
            if not isinstance(received, bytes) or received.startswith(_ERROR_TAG):
                raise RuntimeError(f"a stream answered {received!r}")
            finished.append((start, time.perf_counter_ns()))
        await call.done_writing()


class FrameCaller:
    """StreamDetect of `naiad_client`: one stream of JPEG frames, a frame sent when the last was answered."""

    def __init__(self, client: naiad_client.aio.Client, case: Case) -> None:
        self._client = client
        self._case = case
        self._frames = list(video_frames(FRAMES))

    async def __call__(self, stop: asyncio.Event, finished: Finished) -> None:
        """Go through the frames again and again."""
        started: deque[int] = deque()

        async def frames() -> AsyncIterator[bytes]:
            index = 0
            while not stop.is_set():
                started.append(time.perf_counter_ns())
                yield self._frames[index % len(self._frames)]
                index += 1

        results = self._client.stream_detect(frames(), model=self._case.model, max_in_flight=1)
        async with aclosing(results):
            async for result in results:
                if result.error is not None:
                    raise result.error
                finished.append((started.popleft(), time.perf_counter_ns()))


def request_bytes(case: Case) -> bytes:
    """The case's request as it goes over the wire."""
    arrays = case.requests()[0]
    message = service_pb2.ModelInferRequest(model_name=case.model)
    for name, array in arrays.items():
        datatype = np_to_triton_dtype(array.dtype)
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    serialised: bytes = message.SerializeToString()
    return serialised


async def closed_loop(caller: Caller, in_flight: int, ramp_s: float, window_s: float, pid: int) -> Window:
    """Let `in_flight` callers run; the window opens when the server has had `ramp_s` to settle."""
    stop = asyncio.Event()
    finished: Finished = []
    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller(stop, finished))
        await asyncio.sleep(ramp_s)
        first = read(pid)
        await asyncio.sleep(window_s)
        last = read(pid)
        stop.set()
    return Window.between(first, last, finished)


class OpenLoop:
    """Sends a request at each due time and notes, for each of them, how late it was sent and answered."""

    def __init__(self, caller: TensorCaller) -> None:
        self._caller = caller
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: list[int] = []
        self.sent_late_ns: dict[int, int] = {}
        self.answered_ns: dict[int, int] = {}

    async def run(self, offsets_ns: list[int]) -> int:
        """Send everything and wait for the answers; returns the clock's time at offset 0."""
        loop = asyncio.get_running_loop()
        begin = time.perf_counter_ns() + 5_000_000
        self._due = [begin + offset for offset in offsets_ns]
        done = asyncio.Event()

        def dispatch() -> None:
            # The loop's own timers have the resolution of a millisecond, a thread's sleep twenty times that.
            for index, due in enumerate(self._due):
                left = (due - time.perf_counter_ns()) / 1e9 - _SPARE_SLEEP_S
                if left > 0:
                    time.sleep(left)
                loop.call_soon_threadsafe(self._send, index)
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=dispatch)
        thread.start()
        await done.wait()
        thread.join()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DRAIN_LIMIT_S)
        for task in self._tasks:
            task.cancel()
        return begin

    def _send(self, index: int) -> None:
        task = asyncio.create_task(self._one(index))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, index: int) -> None:
        self.sent_late_ns[index] = time.perf_counter_ns() - self._due[index]
        try:
            await self._caller.infer(self._caller.request)
        except grpc.aio.AioRpcError:
            return  # no answer: it is counted as one that is missing
        self.answered_ns[index] = time.perf_counter_ns() - self._due[index]


async def open_loop(
    caller: TensorCaller, *, rate: float, seed: int, ramp_s: float, window_s: float, pid: int
) -> dict[str, Any]:
    """Send at `rate` a second; what was due in the window after the ramp counts."""
    offsets = poisson_offsets_ns(rate, ramp_s + window_s, seed)
    loop = OpenLoop(caller)
    first, last = await _readings(loop.run(offsets), ramp_s, window_s, pid)
    counted = [index for index, offset in enumerate(offsets) if offset >= ramp_s * 1e9]
    latencies = [loop.answered_ns[index] // 1_000 for index in counted if index in loop.answered_ns]
    late = [loop.sent_late_ns[index] / 1e3 for index in counted if index in loop.sent_late_ns]
    window = Window(
        count=len(latencies),
        seconds=window_s,
        own_cpu_us=(last.own_cpu - first.own_cpu) / 1e3,
        other_cpu_us=(last.other_cpu - first.other_cpu) / 1e3,
        latencies_us=latencies,
    )
    return asdict(window) | {"errors": len(counted) - len(latencies), "late_us": percentiles(late).p99}


async def _readings(work: Any, ramp_s: float, window_s: float, pid: int) -> tuple[Reading, Reading]:
    """The readings at the window's begin and end, while `work` runs to its end."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work)
        await asyncio.sleep(ramp_s)
        first = read(pid)
        await asyncio.sleep(window_s)
        last = read(pid)
    return first, last


@asynccontextmanager
async def _tensor_caller(case: Case, address: str) -> AsyncIterator[Any]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        kind = TensorStreamCaller if case.wire == "stream" else TensorCaller
        yield kind(channel, request_bytes(case))


async def measure(
    case: Case, address: str, rate: float = 0.0, in_flight: int = 0, seed: int = 0, **times: Any
) -> dict[str, Any]:
    """One window, closed with `in_flight` requests or open at `rate`; `failure` says why there is none."""
    try:
        if case.wire == "frames":
            async with naiad_client.aio.Client(address) as client:
                return asdict(await closed_loop(FrameCaller(client, case), in_flight, **times))
        async with _tensor_caller(case, address) as caller:
            if rate:
                return await open_loop(caller, rate=rate, seed=seed, **times)
            return asdict(await closed_loop(caller, in_flight, **times))
    except* (grpc.aio.AioRpcError, NaiadError, RuntimeError) as failures:
        failure = _first(failures)
    return {"failure": failure}


def _first(failures: BaseExceptionGroup[Any]) -> str:
    """The first of several failures, in one line."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
    return " ".join(f"{type(error).__name__}: {details}".split())[:200]


def _main() -> None:
    with asyncio.Runner() as runner:
        for question in questions():
            case = Case(**question.pop("case"))
            answer(runner.run(measure(case, **question)))


if __name__ == "__main__":
    _main()
