"""Requests of single calls built; no call is made here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

import numpy as np

from naiad_client.options import Crop, FaceIn, Finder
from naiad_client.parsing import parse_analyze, parse_compare, parse_detect, parse_embed
from naiad_client.results import Embedding, Face, ResultT
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from naiad_client.images import ImageLike, Pictures
    from naiad_client.options import (
        CallOptions,
        Compared,
        CompareOptions,
        DetectOptions,
        EmbedOptions,
        FaceLike,
        Landmarks,
        StreamOptions,
        Version,
    )
    from naiad_client.results import AnalyzeResult, CompareResult, DetectResult, EmbedResult

_LANDMARKS_SHAPE = (5, 2)


@dataclass(frozen=True, slots=True)
class Call(Generic[ResultT]):
    """A unary call that can be made: the stub's method, what it is sent, how its answer is read."""

    method: str
    request: Any
    parse: Callable[[Any], ResultT]
    timeout: float | None
    retries: int | None
    key: str | None = None


@dataclass(frozen=True)
class Messages:
    """Builds requests; holds what a client's calls have in common: default models and how pictures travel."""

    detector: str
    embedder: str
    pictures: Pictures

    def detect(self, image: ImageLike, options: DetectOptions) -> Call[DetectResult]:
        """One Detect call; errors as in `write_image`."""
        request = pb.DetectRequest(
            model_name=self.name(options.get("model"), self.detector),
            model_version=version_text(options.get("version")),
            options=detect_options(options),
        )
        self._pictures(options).write(image, request.image)
        return _call("Detect", request, parse_detect, options)

    def embed(self, image: ImageLike, face: FaceLike, options: EmbedOptions) -> Call[EmbedResult]:
        """One Embed call; errors as in `write_image`, and ValueError for unusable faces."""
        request = self._embed(options)
        finder = options.get("finder")
        if finder is not None and face is not None:
            raise ValueError("face and finder exclude each other: the finder finds the faces")
        request.faces.extend(landmarks_messages(face))
        if finder is not None:
            request.finder.CopyFrom(self.finder(finder))
        self._pictures(options).write(image, request.image)
        return _call("Embed", request, parse_embed, options)

    def embed_crops(self, crops: Sequence[ImageLike], options: EmbedOptions) -> Call[EmbedResult]:
        """One Embed call of several aligned crops; errors as in `write_image`."""
        if not len(crops):
            raise ValueError("crops is empty: at least one is wanted")
        request, pictures = self._embed(options), self._pictures(options)
        for crop in crops:
            pictures.write(crop, request.crops.add())
        return _call("Embed", request, parse_embed, options)

    def analyze(self, image: ImageLike, options: EmbedOptions) -> Call[AnalyzeResult]:
        """One Analyze call; errors as in `write_image`."""
        request = pb.AnalyzeRequest(
            finder=self.finder(options.get("finder")),
            embedder_name=self.name(options.get("model"), self.embedder),
            embedder_version=version_text(options.get("version")),
            normalize=options.get("normalize"),
            also_versions=version_texts(options.get("also_versions")),
        )
        self._pictures(options).write(image, request.image)
        return _call("Analyze", request, parse_analyze, options)

    def compare(self, first: Compared, second: Compared, options: CompareOptions) -> Call[CompareResult]:
        """One Compare call; errors as in `write_image`, and ValueError for unusable faces and vectors."""
        request = pb.CompareRequest(
            finder=self.finder(options.get("finder")),
            embedder_name=self.name(options.get("model"), self.embedder),
            embedder_version=version_text(options.get("version")),
            require_embedding_space=options.get("require_embedding_space", False),
        )
        pictures = self._pictures(options)
        _write_compared(first, pictures, request.first)
        _write_compared(second, pictures, request.second)
        return _call("Compare", request, parse_compare, options)

    def finder(self, finder: Finder | str | None) -> pb.FaceFinder:
        """Who finds the faces; the client's detector unless said otherwise."""
        chosen = finder if isinstance(finder, Finder) else Finder(finder)
        return pb.FaceFinder(
            model_name=self.name(chosen.model, self.detector),
            model_version=version_text(chosen.version),
            options=detect_options(
                {"score_threshold": chosen.score_threshold, "max_faces": chosen.max_faces}
            ),
        )

    @staticmethod
    def name(model: str | None, default: str) -> str:
        """A call's model, else the client's."""
        return default if model is None else model

    def _embed(self, options: EmbedOptions) -> pb.EmbedRequest:
        return pb.EmbedRequest(
            model_name=self.name(options.get("model"), self.embedder),
            model_version=version_text(options.get("version")),
            normalize=options.get("normalize"),
            also_versions=version_texts(options.get("also_versions")),
        )

    def _pictures(self, options: CallOptions) -> Pictures:
        color = options.get("color")
        return self.pictures if color is None else replace(self.pictures, color=color)


def version_text(version: Version | None) -> str:
    """A version as it is on the wire, where empty leaves it to the server."""
    return "" if version is None else str(version)


def version_texts(versions: Sequence[Version] | None) -> list[str]:
    """Further versions as they are on the wire.

    Raises:
        TypeError: one text, whose letters would be taken for versions.
    """
    if isinstance(versions, str):
        raise TypeError(f"also_versions is {versions!r}: a list is wanted")
    return [version_text(version) for version in versions or ()]


def detect_options(options: DetectOptions | StreamOptions) -> pb.DetectOptions:
    """What is wanted of a detector.

    Raises:
        ValueError: a limit of no faces, which on the wire would be the model's own.
    """
    max_faces = options.get("max_faces")
    if max_faces is not None and max_faces < 1:
        raise ValueError(f"max_faces is {max_faces}: at least 1 is wanted, or None for the model's own limit")
    return pb.DetectOptions(
        score_threshold=options.get("score_threshold"),
        max_faces=max_faces or 0,
        boxes_only=options.get("boxes_only", False),
    )


def landmarks_messages(face: FaceLike) -> list[pb.FaceLandmarks]:
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


def _write_compared(compared: Compared, pictures: Pictures, out: pb.ComparedFace) -> None:
    if isinstance(compared, Embedding):
        _write_vector(compared.values, out.embedding)
        out.embedding.space = compared.space
    elif isinstance(compared, np.ndarray) and np.issubdtype(compared.dtype, np.floating):
        _write_vector(compared, out.embedding)
    elif isinstance(compared, Crop):
        pictures.write(compared.image, out.crop)
    elif isinstance(compared, FaceIn):
        out.landmarks.CopyFrom(_landmarks_message(compared.face))
        pictures.write(compared.image, out.image)
    else:
        pictures.write(compared, out.image)  # type: ignore[arg-type]  # mypy sees no dtype: a vector goes above


def _write_vector(vector: npt.NDArray[Any], out: pb.Embedding) -> None:
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"a vector to compare has shape {list(vector.shape)}: [D] is wanted")
    out.values.extend(vector.tolist())


def _call(method: str, request: Any, parse: Callable[[Any], ResultT], options: CallOptions) -> Call[ResultT]:
    return Call(method, request, parse, options.get("timeout"), options.get("retries"), options.get("key"))
