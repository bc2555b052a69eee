"""What calls answer with: plain frozen dataclasses, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from naiad_client.errors import NaiadError

ResultT = TypeVar("ResultT")


class Box(NamedTuple):
    """An upright rectangle in pixels of the upright picture; may reach outside of it."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A vector, and what it may be compared with.

    Attributes:
        values: float32 [D].
        space: its embedding space: only vectors of the same one may be compared. Empty if that is unknown.
    """

    values: npt.NDArray[np.floating]
    space: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class VersionEmbeddings:
    """What one more version of an embedder made of the faces of a result.

    Attributes:
        embeddings: float32 [D] for each of them, None for a face that it did not embed.
        model: the embedder.
        version: its version.
        embedding_space: the space of its vectors.
        timing: where its time went; None if nothing was embedded.
    """

    embeddings: list[npt.NDArray[np.float32] | None]
    model: str
    version: str
    embedding_space: str
    timing: Timing | None


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face found in a picture.

    Attributes:
        box: where it is, in pixels.
        score: the model's confidence, 0 to 1.
        landmarks: float32 [P,2] in pixels; five are left eye, right eye, nose, left and right mouth corner
            as seen in the picture, which embedding needs. None if the detector finds boxes only.
        label: the class, as the model counts them; None if it knows faces only.
        embedding: float32 [D], of `analyze`; None if the face was not embedded.
        track_id: of streams with tracks, the same number for the same face from frame to frame.
        embedding_frame_id: of tracks, the earlier frame that the embedding was made of; None if it is this
            one's.
        embedding_space: of `embedding`; empty if there is none, or the server does not tell it.
    """

    box: Box
    score: float
    landmarks: npt.NDArray[np.float32] | None = None
    label: int | None = None
    embedding: npt.NDArray[np.float32] | None = None
    track_id: int | None = None
    embedding_frame_id: int | None = None
    embedding_space: str = ""

    @property
    def embedded(self) -> Embedding | None:
        """The embedding with its space; None if the face was not embedded."""
        return None if self.embedding is None else Embedding(self.embedding, self.embedding_space)


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went on the server, in microseconds, and the batch it ran in."""

    decode_us: int
    preprocess_us: int
    queue_us: int
    infer_us: int
    postprocess_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class DetectResult:
    """The faces of one picture, the best first; the picture's size is that of the upright original."""

    faces: list[Face]
    model: str
    version: str
    image_width: int
    image_height: int
    timing: Timing


@dataclass(frozen=True, slots=True, eq=False)
class EmbedResult:
    """One float32 row of `embeddings` [n,D] for each face asked for, in that order.

    Attributes:
        embeddings: the vectors.
        model: the embedder that answered.
        version: its version.
        timing: where its time went.
        faces: with a finder, the faces that it found, one a row.
        detector: with a finder, who found them; else "".
        detector_version: its version; else "".
        detector_timing: where its time went; None without a finder.
        embedding_space: of all rows; empty if the server does not tell it.
        also: with `also_versions`, what each of those made of the same faces.
    """

    embeddings: npt.NDArray[np.float32]
    model: str
    version: str
    timing: Timing
    faces: list[Face] = field(default_factory=list)
    detector: str = ""
    detector_version: str = ""
    detector_timing: Timing | None = None
    embedding_space: str = ""
    also: list[VersionEmbeddings] = field(default_factory=list)

    def embedding(self, row: int) -> Embedding:
        """One row with its space."""
        return Embedding(self.embeddings[row], self.embedding_space)


@dataclass(frozen=True, slots=True)
class AnalyzeResult:
    """The faces of one picture, the best first, each with its embedding.

    Attributes:
        faces: the faces.
        detector: who found them.
        detector_version: its version.
        embedder: who embedded them.
        embedder_version: its version.
        image_width: of the upright picture.
        image_height: of the upright picture.
        timing: the detector's; its total is the whole request's.
        embedder_timing: None if nothing was embedded.
        embedded: faces that were embedded for this answer.
        reused: faces whose embedding an earlier frame of their track has given.
        embedding_space: of all embeddings; empty if the server does not tell it.
        also: with `also_versions`, what each of those made of the same faces.
    """

    faces: list[Face]
    detector: str
    detector_version: str
    embedder: str
    embedder_version: str
    image_width: int
    image_height: int
    timing: Timing
    embedder_timing: Timing | None
    embedded: int
    reused: int
    embedding_space: str = ""
    also: list[VersionEmbeddings] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class CompareResult:
    """How alike two faces are. Which similarity is the same person is for the embedder and you to say.

    Attributes:
        similarity: the cosine of the angle between the two vectors, -1 to 1.
        embeddings: float32 [2,D].
        first: the face that was found in the first picture; None if none was looked for.
        second: the same of the second.
        model: the embedder that answered.
        version: its version.
        timing: where the time went.
        embedding_space: the embedder's; empty if the server does not tell it.
    """

    similarity: float
    embeddings: npt.NDArray[np.float32]
    first: Face | None
    second: Face | None
    model: str
    version: str
    timing: Timing
    embedding_space: str = ""


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """When the server did what with a frame, in microseconds of Unix time on its own clock."""

    received_us: int
    begun_us: int
    answered_us: int


@dataclass(frozen=True, slots=True)
class FrameResult(Generic[ResultT]):
    """One frame's answer in a stream; exactly one of `result` and `error` is set.

    Attributes:
        frame_id: the caller's, or the frame's place in the stream, from 0.
        capture_time_us: when the frame was taken; unless the caller says otherwise, when the client was
            given it, microseconds of Unix time.
        result: what a single call would have returned.
        error: what a single call would have raised. The stream lives on.
        times: what the server did when; None of streams without a contract.
    """

    frame_id: int
    capture_time_us: int
    result: ResultT | None = None
    error: NaiadError | None = None
    times: FrameTimes | None = None

    def unwrap(self) -> ResultT:
        """The result.

        Raises:
            NaiadError: the frame has none; this is its error.
        """
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """What became of a stream's frames: sent = answered + failed + all that were dropped + in_flight, always.

    Attributes:
        sent: frames that the stream took.
        answered: with a result.
        failed: with an error.
        dropped: without either, by reason: "superseded" and "too_old" on the server; "stale" on this side,
            while a stream that wants the latest frame was being resumed; "lost" with a stream that failed or
            was cancelled.
        in_flight: not answered yet.
        skipped: frames that `try_send` did not take; not among `sent`.
        resent: frames sent again because a stream ended before their answer.
        resumed: how often a stream was opened in the place of one that ended.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    skipped: int = 0
    resent: int = 0
    resumed: int = 0
