"""The stub for threads: the methods of `VisionServiceStub`, answered by an event loop in a thread."""

# ruff: noqa: N802 - the names are the protocol's; what else calls are given than a timeout is for a network

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import grpc

from naiad_client.triton.aio import AsyncTritonVisionStub
from naiad_client.triton.calls import CLOSED, rpc_error

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from naiad_client.triton.aio import LocalStream
    from naiad_client.triton.vision import TritonSettings


class TritonVisionStub:
    """Vision calls on a Triton server, from any threads; close it when nothing is called any more."""

    def __init__(
        self,
        address: str,
        settings: TritonSettings | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, int | str]] = (),
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        """Create a stub; the arguments are those of `AsyncTritonVisionStub`."""
        self._loop = _Loop()

        async def make() -> AsyncTritonVisionStub:
            return AsyncTritonVisionStub(
                address, settings, credentials=credentials, options=options, metadata=metadata
            )

        try:
            self._stub: AsyncTritonVisionStub = self._loop.run(make())
        except BaseException:
            self._loop.close()
            raise

    def close(self) -> None:
        """End all calls and threads. Safe to call twice."""
        try:
            with contextlib.suppress(grpc.RpcError):  # another thread closes it, or has
                self._loop.run(self._stub.close())
        finally:
            self._loop.close()

    def transports(self) -> dict[str, str]:
        """How tensors go to the server: by shared memory, or by gRPC and why."""
        return self._stub.transports()

    def Detect(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Find the faces of one image."""
        return self._loop.run(self._stub.Detect(request, timeout))

    def Embed(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Turn faces of one image into vectors."""
        return self._loop.run(self._stub.Embed(request, timeout))

    def Analyze(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Find the faces of one image and embed each of them."""
        return self._loop.run(self._stub.Analyze(request, timeout))

    def Compare(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Say how alike two faces are."""
        return self._loop.run(self._stub.Compare(request, timeout))

    def StreamDetect(self, requests: Iterator[Any], timeout: float | None = None, **_: Any) -> ThreadStream:
        """Find faces in a stream of frames."""
        return ThreadStream(self._loop, self._stub.StreamDetect, requests, timeout)

    def StreamEmbed(self, requests: Iterator[Any], timeout: float | None = None, **_: Any) -> ThreadStream:
        """Embed the faces of a stream of frames."""
        return ThreadStream(self._loop, self._stub.StreamEmbed, requests, timeout)

    def StreamAnalyze(self, requests: Iterator[Any], timeout: float | None = None, **_: Any) -> ThreadStream:
        """Find and embed the faces of a stream of frames."""
        return ThreadStream(self._loop, self._stub.StreamAnalyze, requests, timeout)


class _Loop:
    """An event loop in a thread. Whoever made it closes it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        """What it is given before `close` ends or is cancelled; nothing is given to it after that."""
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="naiad-triton-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` gives, from any other thread."""
        with self._lock:
            future = asyncio.run_coroutine_threadsafe(work, self._loop) if self._is_open else None
        if future is None:
            work.close()
            raise rpc_error(grpc.StatusCode.CANCELLED, CLOSED)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise rpc_error(grpc.StatusCode.CANCELLED, CLOSED) from None
        except BaseException:
            future.cancel()  # an interrupt of the caller's, whom nothing is to outlive
            raise

    def call_soon(self, work: Any) -> None:
        """Let the loop call `work`, unless it is closed."""
        with self._lock:
            if self._is_open:
                self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End what still runs, the loop and its thread. Safe to call twice, from any other thread."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


class ThreadStream:
    """A stream in this process, with the manners of gRPC's call of an iterator of requests."""

    def __init__(self, loop: _Loop, start: Any, requests: Iterator[Any], timeout: float | None) -> None:
        self._loop = loop

        async def begin() -> LocalStream:
            stream: LocalStream = start(timeout)
            return stream

        self._stream: LocalStream = loop.run(begin())
        self._responses = self._stream.__aiter__()
        threading.Thread(
            target=self._feed, args=(requests,), name="naiad-triton-requests", daemon=True
        ).start()

    def __iter__(self) -> ThreadStream:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.run(self._next())
        except _StreamEnd:
            raise StopIteration from None

    async def _next(self) -> Any:
        try:
            return await anext(self._responses)
        except StopAsyncIteration:
            raise _StreamEnd from None

    def cancel(self) -> None:
        """End the call now."""
        self._loop.call_soon(self._stream.cancel)

    def code(self) -> grpc.StatusCode:
        """The status code, once the call is over."""
        code: grpc.StatusCode = self._loop.run(self._stream.code())
        return code

    def details(self) -> str:
        """The status's words, once the call is over."""
        return str(self._loop.run(self._stream.details()))

    def _feed(self, requests: Iterator[Any]) -> None:
        try:
            for request in requests:
                self._loop.run(self._stream.write(request))
            self._loop.run(self._stream.done_writing())
        except (asyncio.InvalidStateError, grpc.RpcError):
            return  # the call is over, and whoever reads its responses learns why
        except Exception:  # noqa: BLE001 - as gRPC does: a source that fails ends the call
            self.cancel()


class _StreamEnd(Exception):  # noqa: N818 - no error
    """A stream has ended: StopIteration cannot leave a coroutine."""
