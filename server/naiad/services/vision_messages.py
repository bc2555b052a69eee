"""The vision service's messages in domain terms, and answers as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InvalidArgumentError
from naiad.dataplane.faces import ComparedSide, EncodedImage, Finder, ModelChoice, RawPixels
from naiad.services.conversion import parse_version
from naiad.services.wire.scan import varint
from naiad.vision.raw_frames import PixelFormat
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    from naiad.core.tensors import ModelKey
    from naiad.dataplane.faces import (
        AnalyzeAnswer,
        CompareAnswer,
        DetectAnswer,
        EmbedAnswer,
        FoundFace,
        ImageSource,
        OtherVectors,
        StageTimes,
    )
    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections

LANDMARKS = 5
_VALUES = pb.Embedding.VALUES_FIELD_NUMBER << 3 | 2
"""On the wire: the field's number, and that bytes of a given length follow."""
_SPACE = pb.Embedding.SPACE_FIELD_NUMBER << 3 | 2
_FORMATS = {
    pb.PIXEL_FORMAT_BGR: PixelFormat.BGR,
    pb.PIXEL_FORMAT_RGB: PixelFormat.RGB,
    pb.PIXEL_FORMAT_GRAY: PixelFormat.GRAY,
    pb.PIXEL_FORMAT_NV12: PixelFormat.NV12,
    pb.PIXEL_FORMAT_I420: PixelFormat.I420,
}


def image_source(image: pb.Image, field: str = "image") -> ImageSource:
    """The image of a message, in domain terms.

    Args:
        image: the message.
        field: what errors call it.

    Raises:
        InvalidArgumentError: there is none, or its pixel format is unknown.
    """
    kind = image.WhichOneof("source")
    if kind == "encoded":
        return EncodedImage(image.encoded)
    if kind is None:
        raise InvalidArgumentError(f"{field} is missing: set 'encoded' or 'raw'")
    raw = image.raw
    if raw.format not in _FORMATS:
        raise InvalidArgumentError(
            f"{field}.raw.format is {raw.format}, it must be BGR, RGB, GRAY, NV12 or I420"
        )
    return RawPixels(raw.data, _FORMATS[raw.format], raw.width, raw.height, raw.stride)


def landmark_arrays(faces: Iterable[pb.FaceLandmarks]) -> list[npt.NDArray[np.float32]]:
    """The landmarks of each face as float32 `[5, 2]`.

    Raises:
        InvalidArgumentError: a face has another number of points.
    """
    return [_landmarks(face, f"face {index}") for index, face in enumerate(faces)]


def _landmarks(face: pb.FaceLandmarks, field: str) -> npt.NDArray[np.float32]:
    if len(face.points) != LANDMARKS:
        raise InvalidArgumentError(f"{field} has {len(face.points)} landmarks, alignment needs {LANDMARKS}")
    return np.array([(point.x, point.y) for point in face.points], dtype=np.float32)


def model_choice(name: str, version: str) -> ModelChoice:
    """The model that a request names.

    Raises:
        InvalidArgumentError: the version is no number.
    """
    return ModelChoice(name, parse_version(version))


def finder_of(finder: pb.FaceFinder) -> Finder:
    """Who is to find faces, and how; errors as `model_choice`."""
    return detect_finder(finder.model_name, finder.model_version, finder.options)


def detect_finder(name: str, version: str, options: pb.DetectOptions) -> Finder:
    """The same, of a request or a stream for a detector."""
    threshold = options.score_threshold if options.HasField("score_threshold") else None
    return Finder(name, parse_version(version), threshold, options.max_faces or None)


def normalize_of(
    request: pb.EmbedRequest | pb.AnalyzeRequest | pb.StreamEmbedOptions | pb.StreamAnalyzeOptions,
) -> bool | None:
    """Whether vectors are to have length 1; None leaves it to the config."""
    return request.normalize if request.HasField("normalize") else None


def also_versions_of(
    request: pb.EmbedRequest | pb.AnalyzeRequest | pb.StreamEmbedOptions | pb.StreamAnalyzeOptions,
) -> tuple[int, ...]:
    """The further versions that a request, or a stream, wants embeddings of.

    Raises:
        InvalidArgumentError: one is no number.
    """
    versions = []
    for index, text in enumerate(request.also_versions):
        version = parse_version(text)
        if version is None:
            raise InvalidArgumentError(f"also_versions[{index}] is empty: name a version folder's number")
        versions.append(version)
    return tuple(versions)


def check_embed_request(request: pb.EmbedRequest) -> None:
    """See that the fields that say what to embed go together.

    Raises:
        InvalidArgumentError: two of them contradict each other; names both.
    """
    has_image = request.image.WhichOneof("source") is not None
    beside_crops = (
        ("image", has_image),
        ("faces", bool(request.faces)),
        ("finder", request.HasField("finder")),
    )
    if request.crops:
        for field, is_set in beside_crops:
            if is_set:
                raise InvalidArgumentError(
                    f"'crops' and '{field}' are both set: aligned crops take the place of "
                    "'image', 'faces' and 'finder'"
                )
    if request.faces and request.HasField("finder"):
        raise InvalidArgumentError(
            "'faces' and 'finder' are both set: either the faces are known, or they are to be found"
        )


def crop_sources(request: pb.EmbedRequest) -> list[ImageSource]:
    """The aligned crops of a request; errors as `image_source`."""
    return [image_source(crop, f"crops[{index}]") for index, crop in enumerate(request.crops)]


def compared_side(face: pb.ComparedFace, name: str) -> ComparedSide:
    """One of two faces to compare, called `name` in errors.

    Raises:
        InvalidArgumentError: it has no source, or landmarks for something else than a picture.
    """
    kind = face.WhichOneof("source")
    if kind is None:
        raise InvalidArgumentError(f"{name} is missing: set 'image', 'crop' or 'embedding'")
    has_landmarks = face.HasField("landmarks")
    if has_landmarks and kind != "image":
        raise InvalidArgumentError(
            f"{name}.landmarks and {name}.{kind} are both set: landmarks say where a face is in an 'image'"
        )
    if kind == "image":
        landmarks = _landmarks(face.landmarks, f"{name}.landmarks") if has_landmarks else None
        return ComparedSide(name, image=image_source(face.image, f"{name}.image"), landmarks=landmarks)
    if kind == "crop":
        return ComparedSide(name, crop=image_source(face.crop, f"{name}.crop"))
    vector = np.array(face.embedding.values, dtype=np.float32)
    return ComparedSide(name, vector=vector, space=face.embedding.space)


def timing(times: StageTimes) -> pb.Timing:
    """Times in microseconds."""
    return pb.Timing(
        decode_us=times.decode_ns // 1_000,
        preprocess_us=times.preprocess_ns // 1_000,
        queue_us=times.queue_ns // 1_000,
        infer_us=times.infer_ns // 1_000,
        postprocess_us=times.postprocess_ns // 1_000,
        total_us=times.total_ns // 1_000,
        batch_size=times.batch_size,
    )


def model_version(key: ModelKey, embedding_space: str = "") -> pb.ModelVersion:
    """The model version that answered; of an embedder with the space of its vectors."""
    return pb.ModelVersion(name=key.name, version=str(key.version), embedding_space=embedding_space)


def add_faces(
    faces: RepeatedCompositeFieldContainer[pb.Face], found: Detections, *, boxes_only: bool
) -> None:
    """Write faces where they belong, in their order; without landmarks if only boxes are wanted."""
    landmarks = None if found.landmarks is None or boxes_only else found.landmarks.tolist()
    labels = None if found.labels is None else found.labels.tolist()
    for index, (box, score) in enumerate(zip(found.boxes.tolist(), found.scores.tolist(), strict=True)):
        face = faces.add(score=score)
        place = face.box
        place.x1, place.y1, place.x2, place.y2 = box
        if landmarks is not None:
            points = face.landmarks
            for x, y in landmarks[index]:
                points.add(x=x, y=y)
        if labels is not None:
            face.label = int(labels[index])


def write_embedding(message: pb.Embedding, vector: Floats, space: str = "") -> None:
    """Write a vector, float32 `[d]`, and its space, empty if that is unknown, into an empty message.

    As bytes: number by number, 512 of them take twenty times as long, on the event loop.
    """
    data = vector.astype("<f4", copy=False).tobytes()
    told = space.encode()
    tail = (varint(_SPACE), varint(len(told)), told) if told else ()
    message.MergeFromString(b"".join((varint(_VALUES), varint(len(data)), data, *tail)))


def add_also(
    messages: RepeatedCompositeFieldContainer[pb.VersionEmbeddings],
    also: Iterable[OtherVectors],
    faces: int,
) -> None:
    """Write what further versions made of so many faces: one embedding a face, without values for none."""
    for other in also:
        message = messages.add(model=model_version(other.model, other.embedding_space))
        for vector in other.vectors_of(range(faces)):
            embedding = message.embeddings.add()
            if vector is not None:
                write_embedding(embedding, vector, other.embedding_space)
        if other.times is not None:
            message.timing.CopyFrom(timing(other.times))


def detect_response(
    answer: DetectAnswer,
    request_id: str = "",
    *,
    boxes_only: bool = False,
    into: pb.DetectResponse | None = None,
) -> pb.DetectResponse:
    """The answer to Detect, and to a frame of StreamDetect.

    This one and the next two write into the empty message `into`, where it is given, and return it: a part
    of a message that is made first is copied into its place.
    """
    response = pb.DetectResponse() if into is None else into
    response.model.CopyFrom(model_version(answer.model))
    response.id = request_id
    add_faces(response.faces, answer.detections, boxes_only=boxes_only)
    response.image_width, response.image_height = answer.image_width, answer.image_height
    response.timing.CopyFrom(timing(answer.times))
    return response


def embed_response(
    answer: EmbedAnswer,
    request_id: str = "",
    *,
    boxes_only: bool = False,
    into: pb.EmbedResponse | None = None,
) -> pb.EmbedResponse:
    """The answer to Embed, and to a frame of StreamEmbed; `boxes_only` is of its finder."""
    response = pb.EmbedResponse() if into is None else into
    response.model.CopyFrom(model_version(answer.model, answer.embedding_space))
    response.id = request_id
    for vector in answer.embeddings:
        write_embedding(response.embeddings.add(), vector, answer.embedding_space)
    response.timing.CopyFrom(timing(answer.times))
    add_also(response.also, answer.also, len(answer.embeddings))
    if answer.found is not None:
        add_faces(response.faces, answer.found.detections, boxes_only=boxes_only)
        response.detector.CopyFrom(model_version(answer.found.model))
        response.detector_timing.CopyFrom(timing(answer.found.times))
    return response


def analyze_response(
    answer: AnalyzeAnswer,
    request_id: str = "",
    *,
    boxes_only: bool = False,
    into: pb.AnalyzeResponse | None = None,
) -> pb.AnalyzeResponse:
    """The answer to Analyze, and to a frame of StreamAnalyze before its tracks are told."""
    response = pb.AnalyzeResponse() if into is None else into
    response.detector.CopyFrom(model_version(answer.detector))
    response.embedder.CopyFrom(model_version(answer.embedder, answer.embedding_space))
    response.id = request_id
    add_faces(response.faces, answer.detections, boxes_only=boxes_only)
    response.image_width, response.image_height = answer.image_width, answer.image_height
    response.timing.CopyFrom(timing(answer.times))
    if answer.embedder_times is not None:
        response.embedder_timing.CopyFrom(timing(answer.embedder_times))
    response.embedded = len(answer.rows)
    for row, vector in zip(answer.rows.tolist(), answer.embeddings, strict=True):
        write_embedding(response.faces[row].embedding, vector, answer.embedding_space)
    add_also(response.also, answer.also, len(response.faces))
    return response


def compare_response(
    answer: CompareAnswer, request_id: str = "", *, boxes_only: bool = False
) -> pb.CompareResponse:
    """The answer to Compare."""
    return pb.CompareResponse(
        embedder=model_version(answer.embedder, answer.embedding_space),
        id=request_id,
        similarity=answer.similarity,
        first=_compared_face(answer.first, boxes_only=boxes_only),
        second=_compared_face(answer.second, boxes_only=boxes_only),
        timing=timing(answer.times),
    )


def _compared_face(face: FoundFace, *, boxes_only: bool) -> pb.Face:
    message = pb.Face()
    if face.detection is not None:
        faces = pb.DetectResponse().faces
        add_faces(faces, face.detection, boxes_only=boxes_only)
        [message] = faces
    write_embedding(message.embedding, face.embedding, face.embedding_space)
    return message
