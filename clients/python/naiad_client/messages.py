"""Requests built and responses parsed, for both clients; no call is made here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import numpy as np

from naiad_client.errors import NaiadError, from_number
from naiad_client.images import Color, ImageLike, write_image
from naiad_client.results import Box, DetectResult, EmbedResult, Face, FrameResult, ResultT, Timing
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

Landmarks: TypeAlias = "npt.NDArray[np.floating]"
FaceLike: TypeAlias = "Face | Landmarks | Sequence[Face | Landmarks] | None"
"""Which faces to embed: one, several, a landmarks array [5,2] or [n,5,2]; None for an aligned crop."""
Version: TypeAlias = "int | str"

ItemT = TypeVar("ItemT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT", pb.StreamDetectResponse, pb.StreamEmbedResponse)

_LANDMARKS_SHAPE = (5, 2)


@dataclass(frozen=True)
class StreamMessages(Generic[ItemT, RequestT, ResponseT, ResultT]):
    """How one kind of stream speaks: its first message, an item as a message, a message as a result."""

    opening: RequestT
    frame: Callable[[int, ItemT], RequestT]
    parse: Callable[[ResponseT], FrameResult[ResultT]]
    image: Callable[[ItemT], ImageLike]


@dataclass(frozen=True)
class Messages:
    """Builds requests; holds what a client's calls have in common: default models and channel order."""

    detector: str
    embedder: str
    color: Color | None

    def detect(
        self,
        image: ImageLike,
        *,
        model: str | None,
        version: Version | None,
        score_threshold: float | None,
        max_faces: int | None,
        color: Color | None,
    ) -> pb.DetectRequest:
        """The request of one Detect call; errors as in `write_image`."""
        request = pb.DetectRequest(
            model_name=_model(model, self.detector),
            model_version=_version(version),
            options=_detect_options(score_threshold, max_faces),
        )
        write_image(image, color or self.color, request.image)
        return request

    def embed(
        self,
        image: ImageLike,
        face: FaceLike,
        *,
        model: str | None,
        version: Version | None,
        color: Color | None,
    ) -> pb.EmbedRequest:
        """The request of one Embed call; errors as in `write_image`, and ValueError for unusable faces."""
        request = pb.EmbedRequest(
            model_name=_model(model, self.embedder),
            model_version=_version(version),
            faces=_landmarks_messages(face),
        )
        write_image(image, color or self.color, request.image)
        return request

    def stream_detect(
        self,
        *,
        model: str | None,
        version: Version | None,
        score_threshold: float | None,
        max_faces: int | None,
        color: Color | None,
    ) -> StreamMessages[ImageLike, pb.StreamDetectRequest, pb.StreamDetectResponse, DetectResult]:
        """The messages of a StreamDetect call."""
        options = pb.StreamDetectOptions(
            model_name=_model(model, self.detector),
            model_version=_version(version),
            options=_detect_options(score_threshold, max_faces),
        )

        def frame(frame_id: int, image: ImageLike) -> pb.StreamDetectRequest:
            request = pb.StreamDetectRequest()
            _write_frame(request.frame, frame_id, image, color or self.color)
            return request

        return StreamMessages(
            opening=pb.StreamDetectRequest(options=options),
            frame=frame,
            parse=lambda response: _frame_result(response, lambda: parse_detect(response.result)),
            image=lambda item: item,
        )

    def stream_embed(
        self, *, model: str | None, version: Version | None, color: Color | None
    ) -> StreamMessages[
        tuple[ImageLike, FaceLike], pb.StreamEmbedRequest, pb.StreamEmbedResponse, EmbedResult
    ]:
        """The messages of a StreamEmbed call."""
        options = pb.StreamEmbedOptions(
            model_name=_model(model, self.embedder), model_version=_version(version)
        )

        def frame(frame_id: int, item: tuple[ImageLike, FaceLike]) -> pb.StreamEmbedRequest:
            image, face = item
            request = pb.StreamEmbedRequest()
            request.frame.faces.extend(_landmarks_messages(face))
            _write_frame(request.frame, frame_id, image, color or self.color)
            return request

        return StreamMessages(
            opening=pb.StreamEmbedRequest(options=options),
            frame=frame,
            parse=lambda response: _frame_result(response, lambda: parse_embed(response.result)),
            image=lambda item: item[0],
        )


def parse_detect(response: pb.DetectResponse) -> DetectResult:
    """The result in a Detect response."""
    return DetectResult(
        faces=[_face(face) for face in response.faces],
        model=response.model.name,
        version=response.model.version,
        image_width=response.image_width,
        image_height=response.image_height,
        timing=_timing(response.timing),
    )


def parse_embed(response: pb.EmbedResponse) -> EmbedResult:
    """The result in an Embed response; float32 [n,D], [0,0] if it holds none."""
    rows = [np.array(embedding.values, dtype=np.float32) for embedding in response.embeddings]
    return EmbedResult(
        embeddings=np.stack(rows) if rows else np.empty((0, 0), np.float32),
        model=response.model.name,
        version=response.model.version,
        timing=_timing(response.timing),
    )


def _model(model: str | None, default: str) -> str:
    return default if model is None else model


def _version(version: Version | None) -> str:
    return "" if version is None else str(version)


def _detect_options(score_threshold: float | None, max_faces: int | None) -> pb.DetectOptions:
    if max_faces is not None and max_faces < 1:
        raise ValueError(f"max_faces is {max_faces}: at least 1 is wanted, or None for the model's own limit")
    return pb.DetectOptions(score_threshold=score_threshold, max_faces=max_faces or 0)


def _landmarks_messages(face: FaceLike) -> list[pb.FaceLandmarks]:
    """One message a face; an empty list, on the wire, says that the image is an aligned crop."""
    if face is None:
        return []
    if isinstance(face, Face):
        return [_landmarks_message(face)]
    if isinstance(face, np.ndarray) and face.ndim == len(_LANDMARKS_SHAPE):
        return [_landmarks_message(face)]
    if len(face) == 0:
        raise ValueError(
            "face is empty: name at least one face, or pass None if the image is an aligned crop"
        )
    return [_landmarks_message(one) for one in face]


def _landmarks_message(face: Face | Landmarks) -> pb.FaceLandmarks:
    landmarks = face.landmarks if isinstance(face, Face) else np.asarray(face)
    if landmarks is None:
        raise ValueError("the face has no landmarks to align it by: its detector finds boxes only")
    if landmarks.shape != _LANDMARKS_SHAPE:
        raise ValueError(f"landmarks have shape {list(landmarks.shape)}: [5,2] or [n,5,2] is wanted")
    return pb.FaceLandmarks(points=[pb.Point(x=x, y=y) for x, y in landmarks.tolist()])


def _write_frame(out: pb.Frame, frame_id: int, image: ImageLike, color: Color | None) -> None:
    out.frame_id = frame_id
    out.capture_time_us = time.time_ns() // 1000
    write_image(image, color, out.image)


def _frame_result(response: ResponseT, parse: Callable[[], ResultT]) -> FrameResult[ResultT]:
    result: ResultT | None = None
    error: NaiadError | None = None
    if response.WhichOneof("outcome") == "result":
        result = parse()
    else:  # a response without an outcome is an error without words
        error = from_number(response.error.code, response.error.message)
    return FrameResult(response.frame_id, response.capture_time_us, result, error)


def _face(face: pb.Face) -> Face:
    box = Box(face.box.x1, face.box.y1, face.box.x2, face.box.y2)
    points = [(point.x, point.y) for point in face.landmarks]
    landmarks = np.array(points, np.float32) if points else None
    return Face(box, face.score, landmarks, face.label if face.HasField("label") else None)


def _timing(timing: pb.Timing) -> Timing:
    return Timing(
        decode_us=timing.decode_us,
        preprocess_us=timing.preprocess_us,
        queue_us=timing.queue_us,
        infer_us=timing.infer_us,
        postprocess_us=timing.postprocess_us,
        total_us=timing.total_us,
        batch_size=timing.batch_size,
    )
