"""The asyncio client: the methods of `naiad_client.Client`, awaited. Create it where a loop runs."""

# ruff: noqa: ASYNC109 - a timeout here is the deadline that gRPC tells the server

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Self

import grpc
import grpc.aio

from naiad_client import aio_streaming
from naiad_client.base import (
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_TIMEOUT_S,
    HEALTH_PAUSE_S,
    HEALTH_REQUEST,
    HEALTH_WATCH,
    BaseClient,
    Readiness,
    check_stream,
)
from naiad_client.errors import from_rpc
from naiad_client.images import is_path
from naiad_client.messages import parse_detect, parse_embed
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
    from types import TracebackType
    from typing import TypeVar

    from naiad_client.images import Color, ImageLike
    from naiad_client.messages import FaceLike, Version
    from naiad_client.results import DetectResult, EmbedResult, FrameResult

    RequestT = TypeVar("RequestT")
    ResponseT = TypeVar("ResponseT")


class Client(BaseClient):
    """Calls a Naiad server; the arguments are those of BaseClient. Close it, or use it in `async with`."""

    def _connect(
        self, credentials: grpc.ChannelCredentials | None, options: tuple[tuple[str, int | str], ...]
    ) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self.address, options)
        else:
            self._channel = grpc.aio.secure_channel(self.address, credentials, options)
        self._stub = vision_pb2_grpc.VisionServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel and cancel the calls under way. Safe to call twice."""
        await self._channel.close(None)

    async def wait_until_ready(self, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """As `naiad_client.Client.wait_until_ready`."""
        readiness = Readiness(self.address, timeout)
        watch = self._channel.unary_stream(HEALTH_WATCH, None, None)
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            call = watch(HEALTH_REQUEST, timeout=left, metadata=self._metadata, wait_for_ready=True)
            try:
                async for status in call:
                    if readiness.is_ready(status):
                        return
            except grpc.RpcError as error:
                if readiness.is_ready_despite(error):
                    return
            finally:
                call.cancel()
            await asyncio.sleep(HEALTH_PAUSE_S)

    async def detect(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: Version | None = None,
        score_threshold: float | None = None,
        max_faces: int | None = None,
        color: Color | None = None,
        timeout: float | None = None,
    ) -> DetectResult:
        """Find the faces in one picture; arguments and errors of `naiad_client.Client.detect`."""
        build = partial(
            self._messages.detect,
            image,
            model=model,
            version=version,
            score_threshold=score_threshold,
            max_faces=max_faces,
            color=color,
        )
        return parse_detect(await self._call(self._stub.Detect, await _built(build, image), timeout))

    async def embed(
        self,
        image: ImageLike,
        face: FaceLike = None,
        *,
        model: str | None = None,
        version: Version | None = None,
        color: Color | None = None,
        timeout: float | None = None,
    ) -> EmbedResult:
        """Turn faces into embeddings; arguments and errors of `naiad_client.Client.embed`."""
        build = partial(self._messages.embed, image, face, model=model, version=version, color=color)
        return parse_embed(await self._call(self._stub.Embed, await _built(build, image), timeout))

    def stream_detect(
        self,
        frames: AsyncIterable[ImageLike] | Iterable[ImageLike],
        *,
        model: str | None = None,
        version: Version | None = None,
        score_threshold: float | None = None,
        max_faces: int | None = None,
        color: Color | None = None,
        timeout: float | None = None,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
    ) -> AsyncGenerator[FrameResult[DetectResult], None]:
        """Find the faces in each of a stream of frames, in order; as `naiad_client.Client.stream_detect`.

        A task pulls from `frames`; a plain iterable is pulled in a worker thread, so it may block. Whoever
        leaves the loop early should hold the results in `contextlib.aclosing`, which ends the stream there.
        """
        check_stream(frames, max_in_flight)
        messages = self._messages.stream_detect(
            model=model, version=version, score_threshold=score_threshold, max_faces=max_faces, color=color
        )
        call = partial(self._stub.StreamDetect, timeout=timeout, metadata=self._metadata)
        return aio_streaming.run_stream(call, messages, frames, max_in_flight)

    def stream_embed(
        self,
        frames: AsyncIterable[tuple[ImageLike, FaceLike]] | Iterable[tuple[ImageLike, FaceLike]],
        *,
        model: str | None = None,
        version: Version | None = None,
        color: Color | None = None,
        timeout: float | None = None,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
    ) -> AsyncGenerator[FrameResult[EmbedResult], None]:
        """Embed faces of each of a stream of frames, in order; the rules of `stream_detect`."""
        check_stream(frames, max_in_flight)
        messages = self._messages.stream_embed(model=model, version=version, color=color)
        call = partial(self._stub.StreamEmbed, timeout=timeout, metadata=self._metadata)
        return aio_streaming.run_stream(call, messages, frames, max_in_flight)

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float | None,
    ) -> ResponseT:
        try:
            return await method(request, timeout=self._limit(timeout), metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc(error) from error


async def _built(build: Callable[[], RequestT], image: ImageLike) -> RequestT:
    """The request; a file is read in a worker thread."""
    if is_path(image):
        return await asyncio.to_thread(build)
    return build()
