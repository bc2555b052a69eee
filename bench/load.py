"""The load: stock tritonclient and naiad_client in a closed loop, in one process.

Closed loop: each of the N requests in flight is sent when the one before it was answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import tritonclient.grpc.aio as triton
from bench.cases import FRAMES, Case
from bench.meter import Window, read, sums
from bench.processes import answer, questions
from tritonclient.utils import np_to_triton_dtype

import naiad_client.aio
from naiad.demo.media import video_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Finished = list[tuple[int, int]]


class Caller(Protocol):
    """Keeps one request in flight until told to stop."""

    async def __call__(self, stop: asyncio.Event, finished: Finished) -> None:
        """Append (start, end) of each request, nanoseconds of `perf_counter_ns`."""
        ...


class TensorCaller:
    """ModelInfer of the stock asyncio client; the request's tensors are made once."""

    def __init__(self, client: triton.InferenceServerClient, case: Case) -> None:
        self._client = client
        self._case = case
        self._inputs = []
        for name, array in case.requests()[0].items():
            tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            self._inputs.append(tensor)

    async def __call__(self, stop: asyncio.Event, finished: Finished) -> None:
        """Infer again and again."""
        while not stop.is_set():
            start = time.perf_counter_ns()
            await self._client.infer(self._case.model, self._inputs)
            finished.append((start, time.perf_counter_ns()))

    async def sums(self) -> dict[str, float]:
        """What the outputs of one request add up to."""
        result = await self._client.infer(self._case.model, self._inputs)
        return sums({tensor.name: result.as_numpy(tensor.name) for tensor in result.get_response().outputs})


class StreamCaller:
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


async def measure(case: Case, address: str, **settings: Any) -> dict[str, Any]:
    """One window, the batches that ran meanwhile, and the sums of one answer (not of streams)."""
    async with triton.InferenceServerClient(address) as client:
        tensors = TensorCaller(client, case)
        checked = {} if case.stream else await tensors.sums()
        before = await _executions(client, case.model)
        if case.stream:
            async with naiad_client.aio.Client(address) as vision:
                window = await closed_loop(StreamCaller(vision, case), **settings)
        else:
            window = await closed_loop(tensors, **settings)
        after = await _executions(client, case.model)
    requests, executions = (end - start for start, end in zip(before, after, strict=True))
    return asdict(window) | {"sums": checked, "average_batch": requests / max(1, executions)}


async def _executions(client: triton.InferenceServerClient, model: str) -> tuple[int, int]:
    """(requests, executions) that the server has counted, over all versions."""
    statistics = (await client.get_inference_statistics(model)).model_stats
    return sum(row.inference_count for row in statistics), sum(row.execution_count for row in statistics)


def _main() -> None:
    with asyncio.Runner() as runner:
        for question in questions():
            case = Case(**question.pop("case"))
            answer(runner.run(measure(case, **question)))


if __name__ == "__main__":
    _main()
