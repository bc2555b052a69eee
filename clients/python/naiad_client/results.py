"""What calls answer with: plain frozen dataclasses, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass
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
class Face:
    """One face found in a picture.

    Attributes:
        box: where it is, in pixels.
        score: the model's confidence, 0 to 1.
        landmarks: float32 [P,2] in pixels; five are left eye, right eye, nose, left and right mouth corner
            as seen in the picture, which embedding needs. None if the detector finds boxes only.
        label: the class, as the model counts them; None if it knows faces only.
    """

    box: Box
    score: float
    landmarks: npt.NDArray[np.float32] | None = None
    label: int | None = None


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
    """One float32 row of `embeddings` [n,D] for each face asked for, in that order."""

    embeddings: npt.NDArray[np.float32]
    model: str
    version: str
    timing: Timing


@dataclass(frozen=True, slots=True)
class FrameResult(Generic[ResultT]):
    """One frame's answer in a stream; exactly one of `result` and `error` is set.

    Attributes:
        frame_id: the frame's place in the stream, from 0.
        capture_time_us: when the client took the frame from the caller, microseconds of Unix time.
        result: what a single call would have returned.
        error: what a single call would have raised. The stream lives on.
    """

    frame_id: int
    capture_time_us: int
    result: ResultT | None = None
    error: NaiadError | None = None

    def unwrap(self) -> ResultT:
        """The result.

        Raises:
            NaiadError: the frame has none; this is its error.
        """
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result
