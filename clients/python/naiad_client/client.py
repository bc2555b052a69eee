"""The synchronous client: each method is one call; safe to use from several threads at once."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Self

import grpc

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
from naiad_client.messages import parse_detect, parse_embed
from naiad_client.streaming import run_stream
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType
    from typing import TypeVar

    from naiad_client.images import Color, ImageLike
    from naiad_client.messages import FaceLike, Version
    from naiad_client.results import DetectResult, EmbedResult, FrameResult

    RequestT = TypeVar("RequestT")
    ResponseT = TypeVar("ResponseT")


class Client(BaseClient):
    """Calls a Naiad server; the arguments are those of BaseClient. Close it, or use it in `with`."""

    def _connect(
        self, credentials: grpc.ChannelCredentials | None, options: tuple[tuple[str, int | str], ...]
    ) -> None:
        if credentials is None:
            self._channel = grpc.insecure_channel(self.address, options)
        else:
            self._channel = grpc.secure_channel(self.address, credentials, options)
        self._stub = vision_pb2_grpc.VisionServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls under way fail with CancelledError. Safe to call twice."""
        self._channel.close()

    def wait_until_ready(self, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Wait until the server is reachable and its health service says that it serves.

        Raises:
            DeadlineExceededError: it did not within `timeout` seconds; the message says how far it came.
            NaiadError: the server refused to be asked.
        """
        readiness = Readiness(self.address, timeout)
        watch = self._channel.unary_stream(HEALTH_WATCH, None, None)
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
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

    def detect(
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
        """Find the faces in one picture.

        Args:
            image: an encoded file's bytes or path, or a uint8 array [H,W,3] or [H,W].
            model: the detector, in place of the client's.
            version: a version folder's number; None lets the server choose.
            score_threshold: faces below it are left out, 0 to 1; None for the model's own.
            max_faces: at most this many, the best first; None for the model's own limit.
            color: channel order of a colour array, in place of the client's.
            timeout: seconds, in place of the client's.

        Raises:
            NaiadError: the call failed.
            TypeError, ValueError, OSError: the picture is of no use, or its file cannot be read.
        """
        request = self._messages.detect(
            image,
            model=model,
            version=version,
            score_threshold=score_threshold,
            max_faces=max_faces,
            color=color,
        )
        return parse_detect(self._call(self._stub.Detect, request, timeout))

    def embed(
        self,
        image: ImageLike,
        face: FaceLike = None,
        *,
        model: str | None = None,
        version: Version | None = None,
        color: Color | None = None,
        timeout: float | None = None,
    ) -> EmbedResult:
        """Turn faces of one picture into embeddings, one row a face.

        Args:
            image: as for `detect`.
            face: a Face, several, or landmarks [5,2] or [n,5,2]; None if the picture is one aligned crop.
            model: the embedder, in place of the client's.
            version: as for `detect`.
            color: as for `detect`.
            timeout: as for `detect`.

        Raises:
            NaiadError: the call failed.
            TypeError, ValueError, OSError: the picture or a face is of no use.
        """
        request = self._messages.embed(image, face, model=model, version=version, color=color)
        return parse_embed(self._call(self._stub.Embed, request, timeout))

    def stream_detect(
        self,
        frames: Iterable[ImageLike],
        *,
        model: str | None = None,
        version: Version | None = None,
        score_threshold: float | None = None,
        max_faces: int | None = None,
        color: Color | None = None,
        timeout: float | None = None,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
    ) -> Generator[FrameResult[DetectResult], None, None]:
        """Find the faces in each of a stream of frames; results come in the order of the frames.

        A thread of gRPC's pulls from `frames`, which may be endless. Leaving the loop over the results (or
        `close()` on them) ends the stream. A frame that fails is a result with an `error`.

        Args:
            frames: pictures, each as for `detect`.
            model: as for `detect`.
            version: as for `detect`.
            score_threshold: as for `detect`.
            max_faces: as for `detect`.
            color: as for `detect`.
            timeout: seconds for the whole stream; None for no limit.
            max_in_flight: most frames taken from `frames` whose results have not been received.

        Raises:
            NaiadError: the stream itself failed.
            Exception: what `frames` raised or a picture of no use, after the results of all earlier frames.
        """
        check_stream(frames, max_in_flight)
        messages = self._messages.stream_detect(
            model=model, version=version, score_threshold=score_threshold, max_faces=max_faces, color=color
        )
        call = partial(self._stub.StreamDetect, timeout=timeout, metadata=self._metadata)
        return run_stream(call, messages, frames, max_in_flight)

    def stream_embed(
        self,
        frames: Iterable[tuple[ImageLike, FaceLike]],
        *,
        model: str | None = None,
        version: Version | None = None,
        color: Color | None = None,
        timeout: float | None = None,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
    ) -> Generator[FrameResult[EmbedResult], None, None]:
        """Embed faces of each of a stream of frames; the rules of `stream_detect`.

        Args:
            frames: pairs of a picture and its faces, each as for `embed`.
            model: as for `embed`.
            version: as for `embed`.
            color: as for `embed`.
            timeout: as for `stream_detect`.
            max_in_flight: as for `stream_detect`.
        """
        check_stream(frames, max_in_flight)
        messages = self._messages.stream_embed(model=model, version=version, color=color)
        call = partial(self._stub.StreamEmbed, timeout=timeout, metadata=self._metadata)
        return run_stream(call, messages, frames, max_in_flight)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float | None,
    ) -> ResponseT:
        try:
            return method(request, timeout=self._limit(timeout), metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc(error) from error
