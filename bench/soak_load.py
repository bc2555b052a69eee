"""The load of a soak: callers of every kind beside each other, those that do wrong included.

Each caller calls, rests, and calls again. What a reload does to a call is counted by its status and is no
fault; an answer that is wrong is.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
import tritonclient.grpc.aio as triton
import tritonclient.http.aio as triton_http
from aiohttp import ClientError
from bench.soak_models import ROW, WEIGHTS
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonclient.utils import shared_memory as shm

import naiad_client.aio
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.demo.media import video_frames
from naiad_client.errors import NaiadError as ClientSideError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from bench.soak_server import SoakServer

    Call = Callable[[], Awaitable[None]]

SERVER_FLAGS = (
    "--allow-client-shm=true",
    f"--grpc-max-message-bytes={8 * 2**20}",
    f"--max-image-bytes={2**20}",
    f"--http-max-input-size={2**20}",
)
"""Limits that the oversized calls are above of."""
_OVER = 9 * 2**20
_REFUSALS = (InferenceServerException, ClientSideError, grpc.RpcError, ClientError)
_FRAMES = 6
_LARGEST_SIDE = 96
_TURNS = 5
_PATIENCE_S = 30
"""A reload takes seconds on a busy machine; what takes longer than this has been forgotten."""


@dataclass(slots=True)
class Tally:
    """How the calls ended: answered, or with which status, by kind of caller."""

    ended: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, kind: str, status: str) -> None:
        """Count a call."""
        self.ended[kind, status] += 1

    @property
    def answered(self) -> dict[str, int]:
        """Of each kind of caller, how many calls were answered."""
        return {kind: count for (kind, status), count in sorted(self.ended.items()) if status == "answered"}

    def as_dict(self) -> dict[str, dict[str, int]]:
        """By kind of caller, then by status."""
        found: dict[str, dict[str, int]] = {}
        for (kind, status), count in sorted(self.ended.items()):
            found.setdefault(kind, {})[status] = count
        return found


def _tensor(module: Any, name: str, array: np.ndarray) -> Any:
    tensor = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _require(found: np.ndarray | None, expected: np.ndarray, what: str) -> None:
    """Raises InternalError where an answer is wrong."""
    if found is None or not np.array_equal(found, expected):
        raise InternalError(f"{what} was answered wrong: {found}, expected {expected}")


class Load:
    """All callers over one connection of each kind. An async context manager; `run` until told to stop."""

    def __init__(self, server: SoakServer, detectors: tuple[str, ...], seed: int) -> None:
        self.tally = Tally()
        self._server = server
        self._random = np.random.default_rng(seed)
        self._stack = AsyncExitStack()
        self._detectors = itertools.cycle(detectors)
        self._frames = list(video_frames(_FRAMES))
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        self._grpc = await enter(triton.InferenceServerClient(self._server.grpc))
        self._http = await enter(triton_http.InferenceServerClient(self._server.http))
        self._vision = await enter(naiad_client.aio.Client(self._server.grpc))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def client(self) -> triton.InferenceServerClient:
        """The connection for whoever reloads models."""
        return self._grpc

    async def run(self, stop: asyncio.Event, rest_s: float, only: Sequence[str] = ()) -> None:
        """Let every caller call until `stop`, each resting so long between two calls.

        With `only`, those of these kinds alone.

        Raises:
            InternalError: an answer was wrong, or there was none.
            InvalidArgumentError: there is no such kind.
        """
        kinds: dict[str, Call] = {
            "unary": self._unary,
            "weights": self._weights,
            "stream": self._stream,
            "sequence": self._sequence,
            "http": self._over_http,
            "shared memory": self._shared_memory,
            "shapes": self._shapes,
            "ensemble": self._ensemble,
            "detect": self._detect,
            "frames": self._stream_detect,
            "wrong": self._wrong,
            "cancelled": self._cancelled,
            "oversized": self._oversized,
        }
        if unknown := set(only) - set(kinds):
            raise InvalidArgumentError(f"--caller={min(unknown)}: expected one of {', '.join(kinds)}")
        async with asyncio.TaskGroup() as callers:
            for kind, call in kinds.items():
                if only and kind not in only:
                    continue
                callers.create_task(self._again(kind, call, stop, rest_s), name=kind)

    async def _again(self, kind: str, call: Call, stop: asyncio.Event, rest_s: float) -> None:
        while not stop.is_set():
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await call()
            except TimeoutError:
                raise InternalError(f"a call of '{kind}' was not answered within {_PATIENCE_S} s") from None
            except _REFUSALS as error:
                self.tally.add(kind, _status(error))
            else:
                self.tally.add(kind, "answered")
            await asyncio.sleep(rest_s)

    def _row(self) -> np.ndarray:
        return self._random.integers(-9, 9, (1, ROW)).astype(np.float32)

    async def _unary(self) -> None:
        a, b = self._row(), self._row()
        inputs = [_tensor(triton, "INPUT0", a), _tensor(triton, "INPUT1", b)]
        result = await self._grpc.infer("add_sub", inputs)
        _require(result.as_numpy("OUTPUT0"), a + b, "add_sub")

    async def _weights(self) -> None:
        array = self._random.integers(0, 9, (2, WEIGHTS)).astype(np.float32)
        for model in ("dense", "versions"):
            result = await self._grpc.infer(model, [_tensor(triton, "INPUT", array)])
            _require(result.as_numpy("OUTPUT"), 2 * array, model)

    async def _stream(self) -> None:
        await self._streamed([{"model_name": "add_sub", "inputs": self._pair()} for _ in range(_TURNS)])

    def _pair(self) -> list[Any]:
        return [_tensor(triton, name, self._row()) for name in ("INPUT0", "INPUT1")]

    async def _sequence(self) -> None:
        """Every third sequence is left without an end: the server has to forget it."""
        number = next(self._numbers)
        one = np.ones((1, 1), np.int32)
        requests: list[dict[str, Any]] = [
            {
                "model_name": "sequence",
                "inputs": [_tensor(triton, "INPUT", one)],
                "sequence_id": number,
                "sequence_start": turn == 0,
                "sequence_end": turn == _TURNS - 1 and number % 3 != 0,
            }
            for turn in range(_TURNS)
        ]
        sums = await self._streamed(requests)
        _require(sums[-1].as_numpy("OUTPUT"), one * _TURNS, "sequence")

    async def _streamed(self, requests: list[dict[str, Any]]) -> list[Any]:
        async def sent() -> AsyncIterator[dict[str, Any]]:
            for request in requests:
                yield request

        results = []
        async for result, error in self._grpc.stream_infer(sent()):
            if error is not None:
                raise error
            results.append(result)
        return results

    async def _over_http(self) -> None:
        a, b = self._row(), self._row()
        inputs = [_tensor(triton_http, "INPUT0", a), _tensor(triton_http, "INPUT1", b)]
        compression = {} if next(self._numbers) % 2 else {"request_compression_algorithm": "gzip"}
        result = await self._http.infer("add_sub", inputs, **compression)
        _require(result.as_numpy("OUTPUT1"), a - b, "add_sub over HTTP")

    async def _shared_memory(self) -> None:
        """A region each time, registered, used and let go of."""
        name = f"naiad-soak-{next(self._numbers)}"
        array = self._random.random((8, WEIGHTS), np.float32)
        region = shm.create_shared_memory_region(name, f"/{name}", array.nbytes)
        try:
            shm.set_shared_memory_region(region, [array])
            await self._grpc.register_system_shared_memory(name, f"/{name}", array.nbytes)
            try:
                tensor = triton.InferInput("INPUT", list(array.shape), "FP32")
                tensor.set_shared_memory(name, array.nbytes)
                result = await self._grpc.infer("dense", [tensor])
                _require(result.as_numpy("OUTPUT"), 2 * array, "dense out of shared memory")
            finally:
                await self._grpc.unregister_system_shared_memory(name)
        finally:
            shm.destroy_shared_memory_region(region)

    async def _shapes(self) -> None:
        height, width = self._random.integers(1, _LARGEST_SIDE, 2)
        array = self._random.random((1, height, width), np.float32)
        result = await self._grpc.infer("dynamic", [_tensor(triton, "INPUT", array)])
        _require(result.as_numpy("OUTPUT"), 2 * array, "dynamic")

    async def _ensemble(self) -> None:
        a, b = self._row(), self._row()
        result = await self._grpc.infer("ensemble", [_tensor(triton, "A", a), _tensor(triton, "B", b)])
        _require(result.as_numpy("TWICE_A"), 2 * a, "ensemble")

    async def _detect(self) -> None:
        frame = self._frames[next(self._numbers) % _FRAMES]
        await self._vision.detect(frame, model=next(self._detectors))

    async def _stream_detect(self) -> None:
        """Every other stream is left after its first answer."""
        leaves = next(self._numbers) % 2 == 0
        results = self._vision.stream_detect(self._frames, model=next(self._detectors), max_in_flight=2)
        async with aclosing(results):
            async for result in results:
                if result.error is not None:
                    raise result.error
                if leaves:
                    return

    async def _wrong(self) -> None:
        """A shape, a name, a model, an input and a picture that are none."""
        short = np.zeros((1, ROW - 1), np.float32)
        tensors = [_tensor(triton, "INPUT0", short), _tensor(triton, "INPUT1", short)]
        turns: list[Callable[[], Awaitable[Any]]] = [
            lambda: self._grpc.infer("add_sub", tensors),
            lambda: self._grpc.infer("add_sub", tensors[:1]),
            lambda: self._grpc.infer("nothing", self._pair()),
            lambda: self._grpc.infer("add_sub", self._pair(), model_version="99"),
            lambda: self._vision.detect(b"\xff\xd8\xff no picture", model="face_detector"),
            lambda: self._http.infer("add_sub", [_tensor(triton_http, "INPUT0", short)]),
        ]
        await turns[next(self._numbers) % len(turns)]()

    async def _cancelled(self) -> None:
        """Callers that leave before they are answered, and one whose deadline is too short."""
        calls = [asyncio.create_task(self._unary()) for _ in range(3)]
        calls.append(asyncio.create_task(self._detect()))
        await asyncio.sleep(float(self._random.random()) * 0.003)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._grpc.infer("dense", [self._big_row()], client_timeout=0.001)

    def _big_row(self) -> Any:
        return _tensor(triton, "INPUT", np.zeros((8, WEIGHTS), np.float32))

    async def _oversized(self) -> None:
        large = np.zeros((1, _OVER // 4), np.float32)
        turns: list[Callable[[], Awaitable[Any]]] = [
            lambda: self._grpc.infer("dense", [_tensor(triton, "INPUT", large)]),
            lambda: self._vision.detect(b"\xff\xd8\xff" + bytes(2 * 2**20), model="face_detector"),
            lambda: self._http.load_model("dense", config=" " * (2 * 2**20)),
        ]
        await turns[next(self._numbers) % len(turns)]()


def _status(error: Exception) -> str:
    """The status of a refusal in a word."""
    if isinstance(error, InferenceServerException):
        return str(error.status() or "refused").removeprefix("StatusCode.")
    if isinstance(error, ClientSideError):
        return str(error.code.name)
    if isinstance(error, grpc.aio.AioRpcError):
        return str(error.code().name)
    return type(error).__name__
