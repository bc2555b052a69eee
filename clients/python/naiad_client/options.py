"""What calls and streams can be told, once for both clients: keyword arguments, all optional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from naiad_client.images import Color, Encoding, ImageLike
    from naiad_client.results import Embedding, Face

    Landmarks: TypeAlias = npt.NDArray[np.floating]

FaceLike: TypeAlias = "Face | Landmarks | Sequence[Face | Landmarks] | None"
"""Which faces to embed: one, several, a landmarks array [5,2] or [n,5,2]; None for an aligned crop."""
Version: TypeAlias = "int | str"
StreamKind: TypeAlias = Literal["detect", "embed", "analyze"]
"""What is done with a stream's frames."""

DEFAULT_MAX_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class Finder:
    """The detector that finds faces for another model.

    Attributes:
        model: its name; None for the client's detector.
        version: a version folder's number; None lets the server choose.
        score_threshold: faces below it are left out, 0 to 1; None for the model's own.
        max_faces: at most this many, the best first; None for the model's own limit.
    """

    model: str | None = None
    version: Version | None = None
    score_threshold: float | None = None
    max_faces: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """An aligned crop of the embedder's input size, in place of a picture to find a face in."""

    image: ImageLike


@dataclass(frozen=True, slots=True, eq=False)
class FaceIn:
    """One face of a picture, by its landmarks [5,2] or as it was found."""

    image: ImageLike
    face: Face | Landmarks


Compared: TypeAlias = "ImageLike | Crop | FaceIn | Embedding | npt.NDArray[np.floating]"
"""One of two faces to compare: the largest of a picture, an aligned crop, a known face, an Embedding, or a
vector [D], which does not tell its space."""


class CallOptions(TypedDict, total=False):
    """Of every call.

    timeout: seconds that the call may take with all its tries, in place of the client's.
    retries: tries more than the first where the server is not there or says when to come back, in place of
        the client's; 0 for none.
    color: channel order of a colour array, in place of the client's.
    model: the model's name, in place of the client's detector or embedder.
    version: a version folder's number; None lets the server choose.
    key: who asks, such as a user or a camera: where the server compares versions it stays with one of them.
    """

    timeout: float | None
    retries: int | None
    color: Color | None
    key: str | None
    model: str | None
    version: Version | None


class DetectOptions(CallOptions, total=False):
    """Of a detection.

    score_threshold: faces below it are left out, 0 to 1; None for the model's own.
    max_faces: at most this many, the best first; None for the model's own limit.
    boxes_only: leave the landmarks out of the answer.
    """

    score_threshold: float | None
    max_faces: int | None
    boxes_only: bool


class EmbedOptions(CallOptions, total=False):
    """Of an embedding; `model` is the embedder.

    finder: who finds the faces first: a detector's name ("" for the server's only one) or a `Finder`.
    normalize: whether vectors are scaled to length 1; None for the model's own choice.
    also_versions: further versions of the embedder that embed the same faces, at most 4.
    """

    finder: Finder | str | None
    normalize: bool | None
    also_versions: Sequence[Version]


class CompareOptions(CallOptions, total=False):
    """Of a comparison; `model` is the embedder, `finder` as for `EmbedOptions`.

    require_embedding_space: refuse vectors that do not tell their space; else they are taken for the
        embedder's.
    """

    finder: Finder | str | None
    require_embedding_space: bool


class StreamOptions(DetectOptions, EmbedOptions, total=False):
    """Of every stream: the options of its kind's single call, and these.

    timeout: seconds for the whole stream; None for no limit.
    retries: how often the stream is opened again where it ended without an answer in between; None for the
        client's, and at least 12 (some 36 s) once there was an answer.
    encode: "jpeg" encodes arrays before they are sent (needs OpenCV), in place of the client's.
    quality: of JPEG, 1 to 100.
    tracks: number the faces from frame to frame.
    max_missed: frames in which a face may be missing before its track ends; None for the server's choice.
    embed_when: of "analyze": each face of each frame, or "once_a_track", which needs `tracks`.
    """

    encode: Encoding | None
    quality: int
    tracks: bool
    max_missed: int | None
    embed_when: Literal["every_face", "once_a_track"]


class ContractOptions(StreamOptions, total=False):
    """Of a stream with a contract: those of every stream, and these.

    policy: "every" frame is worked on, the client waits; or the "latest" one, older ones are dropped.
    order: results in the order of the "frames", or each as soon as it is "ready" (not with tracks).
    max_in_flight: frames at work at once; None for the server's limit.
    max_age_ms: a frame that was not begun with by then is dropped; None for never.
    frame_deadline_ms: a frame that was not answered by then fails; None for never.
    """

    policy: Literal["every", "latest"]
    order: Literal["frames", "ready"]
    max_in_flight: int | None
    max_age_ms: int | None
    frame_deadline_ms: int | None
