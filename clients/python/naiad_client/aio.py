"""The asyncio client: the methods of `naiad_client.Client`, awaited. Create it where a loop runs."""

# ruff: noqa: ASYNC109 - a timeout here is the deadline that gRPC tells the server

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import grpc
import grpc.aio

from naiad_client.aio_session import StreamSession
from naiad_client.aio_streaming import run_stream
from naiad_client.base import (
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
from naiad_client.options import DEFAULT_MAX_IN_FLIGHT, Crop, FaceIn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import TypeVar, Unpack

    from naiad_client.images import ImageLike
    from naiad_client.messages import Call
    from naiad_client.options import (
        Compared,
        CompareOptions,
        ContractOptions,
        DetectOptions,
        EmbedOptions,
        FaceLike,
        StreamKind,
        StreamOptions,
    )
    from naiad_client.results import AnalyzeResult, CompareResult, DetectResult, EmbedResult, FrameResult
    from naiad_client.stream_core import StreamCore

    ItemT = TypeVar("ItemT")
    ResultT = TypeVar("ResultT")

__all__ = ["Client", "StreamSession"]


class Client(BaseClient):
    """Calls a Naiad server; the arguments are those of BaseClient. Close it, or use it in `async with`.

    The keyword arguments of its methods are listed in `naiad_client.options`.
    """

    def _connect(
        self, credentials: grpc.ChannelCredentials | None, options: tuple[tuple[str, int | str], ...]
    ) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self.address, options)
        else:
            self._channel = grpc.aio.secure_channel(self.address, credentials, options)
        self._stub = self._make_stub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls under way and later ones fail with CancelledError. Safe to call twice."""
        self._is_closed = True
        if hasattr(self._stub, "close"):
            await self._stub.close()
        await self._channel.close(None)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """As for threads; of a closed channel's calls grpc.aio says that their task was cancelled."""
        try:
            with super()._opened():
                yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise self._closed() from None
            raise

    async def wait_until_ready(self, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """As `naiad_client.Client.wait_until_ready`."""
        readiness = Readiness(self.address, timeout)
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            with self._opened():
                watch = self._channel.unary_stream(HEALTH_WATCH, None, None)
                call = watch(HEALTH_REQUEST, timeout=left, metadata=self._metadata, wait_for_ready=True)
            try:
                with self._opened():
                    async for status in call:
                        if readiness.is_ready(status):
                            return
            except grpc.RpcError as error:
                if readiness.is_ready_despite(error):
                    return
            finally:
                call.cancel()
            await asyncio.sleep(HEALTH_PAUSE_S)

    async def detect(self, image: ImageLike, **options: Unpack[DetectOptions]) -> DetectResult:
        """Find the faces in one picture; as `naiad_client.Client.detect`."""
        return await self._call(partial(self._messages.detect, image, options), image)

    async def embed(
        self, image: ImageLike, face: FaceLike = None, **options: Unpack[EmbedOptions]
    ) -> EmbedResult:
        """Turn faces into embeddings; as `naiad_client.Client.embed`."""
        return await self._call(partial(self._messages.embed, image, face, options), image)

    async def embed_crops(self, crops: Sequence[ImageLike], **options: Unpack[EmbedOptions]) -> EmbedResult:
        """Turn several aligned crops into embeddings; as `naiad_client.Client.embed_crops`."""
        return await self._call(partial(self._messages.embed_crops, crops, options), *crops)

    async def analyze(self, image: ImageLike, **options: Unpack[EmbedOptions]) -> AnalyzeResult:
        """Find the faces in one picture and embed each; as `naiad_client.Client.analyze`."""
        return await self._call(partial(self._messages.analyze, image, options), image)

    async def compare(
        self, first: Compared, second: Compared, **options: Unpack[CompareOptions]
    ) -> CompareResult:
        """Say how alike two faces are; as `naiad_client.Client.compare`."""
        images = (each.image if isinstance(each, Crop | FaceIn) else each for each in (first, second))
        return await self._call(partial(self._messages.compare, first, second, options), *images)

    @overload
    def open_stream(
        self, kind: Literal["detect"], **options: Unpack[ContractOptions]
    ) -> StreamSession[DetectResult]: ...

    @overload
    def open_stream(
        self, kind: Literal["embed"], **options: Unpack[ContractOptions]
    ) -> StreamSession[EmbedResult]: ...

    @overload
    def open_stream(
        self, kind: Literal["analyze"], **options: Unpack[ContractOptions]
    ) -> StreamSession[AnalyzeResult]: ...

    def open_stream(self, kind: StreamKind, **options: Unpack[ContractOptions]) -> StreamSession[Any]:
        """Open a stream of frames with a contract, for `async with`; as `naiad_client.Client.open_stream`."""
        return self._session(self._session_core(kind, options, time.monotonic()), options.get("key"))

    def stream_detect(
        self,
        frames: AsyncIterable[ImageLike] | Iterable[ImageLike],
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        **options: Unpack[StreamOptions],
    ) -> AsyncGenerator[FrameResult[DetectResult], None]:
        """Find the faces in each of a stream of frames, in order; as `naiad_client.Client.stream_detect`.

        A task pulls from `frames`; a plain iterable is pulled in a worker thread, so it may block. Whoever
        leaves the loop early should hold the results in `contextlib.aclosing`, which ends the stream there.
        """
        return self._stream("detect", frames, _alone, max_in_flight, options)

    def stream_embed(
        self,
        frames: AsyncIterable[tuple[ImageLike, FaceLike]] | Iterable[tuple[ImageLike, FaceLike]],
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        **options: Unpack[StreamOptions],
    ) -> AsyncGenerator[FrameResult[EmbedResult], None]:
        """Embed faces of each of a stream of frames, in order; the rules of `stream_detect`."""
        return self._stream("embed", frames, tuple, max_in_flight, options)

    def stream_analyze(
        self,
        frames: AsyncIterable[ImageLike] | Iterable[ImageLike],
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        **options: Unpack[StreamOptions],
    ) -> AsyncGenerator[FrameResult[AnalyzeResult], None]:
        """Find and embed the faces in each of a stream of frames, in order; the rules of `stream_detect`."""
        return self._stream("analyze", frames, _alone, max_in_flight, options)

    def _stream(
        self,
        kind: StreamKind,
        frames: AsyncIterable[ItemT] | Iterable[ItemT],
        pair: Callable[[ItemT], Any],
        max_in_flight: int,
        options: StreamOptions,
    ) -> AsyncGenerator[FrameResult[Any], None]:
        self._check_open()
        check_stream(frames, max_in_flight)
        core = partial(self._plain_core, kind, options, max_in_flight)
        core(
            time.monotonic()
        )  # what is wrong with the options is said here and not where the first result is taken
        return run_stream(lambda: self._session(core(time.monotonic()), options.get("key")), frames, pair)

    def _session(self, core: StreamCore[Any], key: str | None) -> StreamSession[Any]:
        self._check_open()
        method, metadata = getattr(self._stub, core.messages.method), self._metadata_for(key)

        def start(timeout: float | None) -> Any:
            with self._opened():
                return method(timeout=timeout, metadata=metadata)

        return StreamSession(core, start)

    async def _call(self, build: Callable[[], Call[ResultT]], *images: object) -> ResultT:
        """Make a call, again where that may help; files are read in a worker thread."""
        call = await asyncio.to_thread(build) if any(map(is_path, images)) else build()
        method = getattr(self._stub, call.method)
        plan = self._plan(call, time.monotonic())
        while True:
            try:
                left_s = plan.left_s(time.monotonic())
                with self._opened():
                    answer = await method(call.request, timeout=left_s, metadata=self._metadata_for(call.key))
                return call.parse(answer)
            except grpc.RpcError as error:
                failure = from_rpc(error)
                pause_s = plan.pause_s(failure, time.monotonic())
                if pause_s is None:
                    raise failure from error
            await asyncio.sleep(pause_s)


def _alone(image: ImageLike) -> tuple[ImageLike, None]:
    return image, None
