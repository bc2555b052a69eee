"""The synchronous client: each method is one call; safe to use from several threads at once."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import grpc

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
from naiad_client.options import DEFAULT_MAX_IN_FLIGHT
from naiad_client.session import StreamSession
from naiad_client.streaming import run_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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


class Client(BaseClient):
    """Calls a Naiad server; the arguments are those of BaseClient. Close it, or use it in `with`.

    The keyword arguments of its methods are listed in `naiad_client.options`.
    """

    def _connect(
        self, credentials: grpc.ChannelCredentials | None, options: tuple[tuple[str, int | str], ...]
    ) -> None:
        if credentials is None:
            self._channel = grpc.insecure_channel(self.address, options)
        else:
            self._channel = grpc.secure_channel(self.address, credentials, options)
        self._stub = self._make_stub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls under way and later ones fail with CancelledError. Safe to call twice."""
        self._is_closed = True
        getattr(self._stub, "close", lambda: None)()
        self._channel.close()

    def wait_until_ready(self, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Wait until the server is reachable and its health service says that it serves.

        Raises:
            DeadlineExceededError: it did not within `timeout` seconds; the message says how far it came.
            CancelledError: the client is closed.
            NaiadError: the server refused to be asked.
        """
        readiness = Readiness(self.address, timeout)
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            with self._opened():
                watch = self._channel.unary_stream(HEALTH_WATCH, None, None)
                call = watch(HEALTH_REQUEST, timeout=left, metadata=self._metadata, wait_for_ready=True)
            try:
                if any(readiness.is_ready(status) for status in call):
                    return
            except grpc.RpcError as error:
                if readiness.is_ready_despite(error):
                    return
            finally:
                call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leaves it unannotated
            time.sleep(HEALTH_PAUSE_S)

    def detect(self, image: ImageLike, **options: Unpack[DetectOptions]) -> DetectResult:
        """Find the faces in one picture.

        Args:
            image: an encoded file's bytes or path, a uint8 array [H,W,3] or [H,W], or a RawFrame.
            options: see DetectOptions.

        Raises:
            NaiadError: the call failed.
            TypeError, ValueError, OSError: the picture is of no use, or its file cannot be read.
        """
        return self._call(self._messages.detect(image, options))

    def embed(self, image: ImageLike, face: FaceLike = None, **options: Unpack[EmbedOptions]) -> EmbedResult:
        """Turn faces of one picture into embeddings, one row a face.

        Args:
            image: as for `detect`.
            face: a Face, several, or landmarks [5,2] or [n,5,2]; None if the picture is one aligned crop, or
                if a `finder` is to find the faces.
            options: see EmbedOptions.

        Raises:
            NaiadError: the call failed.
            TypeError, ValueError, OSError: the picture or a face is of no use.
        """
        return self._call(self._messages.embed(image, face, options))

    def embed_crops(self, crops: Sequence[ImageLike], **options: Unpack[EmbedOptions]) -> EmbedResult:
        """Turn several aligned crops into embeddings, one row a crop; errors as of `embed`."""
        return self._call(self._messages.embed_crops(crops, options))

    def analyze(self, image: ImageLike, **options: Unpack[EmbedOptions]) -> AnalyzeResult:
        """Find the faces in one picture and embed each; arguments and errors as of `embed`."""
        return self._call(self._messages.analyze(image, options))

    def compare(self, first: Compared, second: Compared, **options: Unpack[CompareOptions]) -> CompareResult:
        """Say how alike two faces are.

        Args:
            first: a picture, whose largest face is taken; a Crop; a FaceIn a picture; or a vector, float [D].
            second: the same.
            options: see CompareOptions.

        Raises:
            NaiadError: the call failed; NotFoundError or InvalidArgumentError if there is no face to compare.
            TypeError, ValueError, OSError: a picture, face or vector is of no use.
        """
        return self._call(self._messages.compare(first, second, options))

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
        """Open a stream of frames that the server keeps a contract for; use it in `with`.

        Args:
            kind: what is done with each frame.
            options: see ContractOptions.

        Raises:
            ValueError: an option is not for that kind of stream, or out of bounds.
            CancelledError: the client is closed.
        """
        core = self._session_core(kind, options, time.monotonic())
        return self._session(core, options.get("key"))

    def stream_detect(
        self,
        frames: Iterable[ImageLike],
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        **options: Unpack[StreamOptions],
    ) -> Generator[FrameResult[DetectResult], None, None]:
        """Find the faces in each of a stream of frames; results come in the order of the frames.

        A thread pulls from `frames`, which may be endless. Leaving the loop over the results (or `close()`
        on them) ends the stream. A frame that fails is a result with an `error`.

        Args:
            frames: pictures, each as for `detect`.
            max_in_flight: most frames taken from `frames` whose results have not been received.
            options: see StreamOptions.

        Raises:
            NaiadError: the stream itself failed.
            Exception: what `frames` raised or a picture of no use, after the results of all earlier frames.
        """
        return self._stream("detect", frames, _alone, max_in_flight, options)

    def stream_embed(
        self,
        frames: Iterable[tuple[ImageLike, FaceLike]],
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        **options: Unpack[StreamOptions],
    ) -> Generator[FrameResult[EmbedResult], None, None]:
        """Embed faces of each of a stream of frames: pairs of a picture and its faces, each as for `embed`.

        The rules are those of `stream_detect`.
        """
        return self._stream("embed", frames, tuple, max_in_flight, options)

    def stream_analyze(
        self,
        frames: Iterable[ImageLike],
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        **options: Unpack[StreamOptions],
    ) -> Generator[FrameResult[AnalyzeResult], None, None]:
        """Find and embed the faces in each of a stream of frames; the rules of `stream_detect`."""
        return self._stream("analyze", frames, _alone, max_in_flight, options)

    def _stream(
        self,
        kind: StreamKind,
        frames: Iterable[ItemT],
        pair: Callable[[ItemT], Any],
        max_in_flight: int,
        options: StreamOptions,
    ) -> Generator[FrameResult[Any], None, None]:
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

        def start(requests: Iterator[Any], timeout: float | None) -> grpc.CallIterator[Any]:
            with self._opened():
                call: grpc.CallIterator[Any] = method(requests, timeout=timeout, metadata=metadata)
            return call

        return StreamSession(core, start)

    def _call(self, call: Call[ResultT]) -> ResultT:
        """Make a call, again where that may help."""
        method = getattr(self._stub, call.method)
        plan = self._plan(call, time.monotonic())
        while True:
            try:
                left_s = plan.left_s(time.monotonic())
                with self._opened():
                    answer = method(call.request, timeout=left_s, metadata=self._metadata_for(call.key))
                return call.parse(answer)
            except grpc.RpcError as error:
                failure = from_rpc(error)
                pause_s = plan.pause_s(failure, time.monotonic())
                if pause_s is None:
                    raise failure from error
            time.sleep(pause_s)


def _alone(image: ImageLike) -> tuple[ImageLike, None]:
    return image, None
