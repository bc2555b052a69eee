"""Responses parsed into results: no protobuf reaches the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from naiad_client.errors import NaiadError, from_number
from naiad_client.results import (
    AnalyzeResult,
    Box,
    CompareResult,
    DetectResult,
    EmbedResult,
    Face,
    FrameResult,
    FrameTimes,
    ResultT,
    Timing,
    VersionEmbeddings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from naiad_protos.naiad.vision.v1 import vision_pb2 as pb


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
    has_detector = response.HasField("detector_timing")
    return EmbedResult(
        embeddings=_rows(response.embeddings),
        model=response.model.name,
        version=response.model.version,
        timing=_timing(response.timing),
        faces=[_face(face) for face in response.faces],
        detector=response.detector.name,
        detector_version=response.detector.version,
        detector_timing=_timing(response.detector_timing) if has_detector else None,
        embedding_space=response.model.embedding_space,
        also=[_also(other) for other in response.also],
    )


def parse_analyze(response: pb.AnalyzeResponse) -> AnalyzeResult:
    """The result in an Analyze response."""
    embedded = response.HasField("embedder_timing")
    return AnalyzeResult(
        faces=[_face(face) for face in response.faces],
        detector=response.detector.name,
        detector_version=response.detector.version,
        embedder=response.embedder.name,
        embedder_version=response.embedder.version,
        image_width=response.image_width,
        image_height=response.image_height,
        timing=_timing(response.timing),
        embedder_timing=_timing(response.embedder_timing) if embedded else None,
        embedded=response.embedded,
        reused=response.reused,
        embedding_space=response.embedder.embedding_space,
        also=[_also(other) for other in response.also],
    )


def parse_compare(response: pb.CompareResponse) -> CompareResult:
    """The result in a Compare response."""
    first, second = response.first, response.second
    return CompareResult(
        similarity=response.similarity,
        embeddings=_rows([first.embedding, second.embedding]),
        first=_face(first) if first.HasField("box") else None,
        second=_face(second) if second.HasField("box") else None,
        model=response.embedder.name,
        version=response.embedder.version,
        timing=_timing(response.timing),
        embedding_space=response.embedder.embedding_space,
    )


def parse_frame(response: Any, parse: Callable[[Any], ResultT]) -> FrameResult[ResultT]:
    """The result or error of a frame in a stream's response; `parse` reads a result."""
    result: ResultT | None = None
    error: NaiadError | None = None
    if response.WhichOneof("outcome") == "result":
        result = parse(response.result)
    else:  # a response without an outcome is an error without words
        error = from_number(response.error.code, response.error.message)
    times = _frame_times(response.account.times) if response.account.HasField("times") else None
    return FrameResult(response.frame_id, response.capture_time_us, result, error, times)


def _face(face: pb.Face) -> Face:
    points = [(point.x, point.y) for point in face.landmarks]
    embedded = face.HasField("embedding")
    return Face(
        box=Box(face.box.x1, face.box.y1, face.box.x2, face.box.y2),
        score=face.score,
        landmarks=np.array(points, np.float32) if points else None,
        label=face.label if face.HasField("label") else None,
        embedding=np.array(face.embedding.values, np.float32) if embedded else None,
        track_id=face.track_id if face.HasField("track_id") else None,
        embedding_frame_id=face.embedding_frame_id if face.HasField("embedding_frame_id") else None,
        embedding_space=face.embedding.space,
    )


def _also(other: pb.VersionEmbeddings) -> VersionEmbeddings:
    return VersionEmbeddings(
        embeddings=[
            np.array(embedding.values, np.float32) if embedding.values else None
            for embedding in other.embeddings
        ],
        model=other.model.name,
        version=other.model.version,
        embedding_space=other.model.embedding_space,
        timing=_timing(other.timing) if other.HasField("timing") else None,
    )


def _rows(embeddings: Iterable[pb.Embedding]) -> npt.NDArray[np.float32]:
    rows = [np.array(embedding.values, dtype=np.float32) for embedding in embeddings]
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def _frame_times(times: pb.FrameTimes) -> FrameTimes:
    return FrameTimes(times.received_us, times.begun_us, times.answered_us)


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
