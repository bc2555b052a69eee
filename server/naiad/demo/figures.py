"""The demo's numbers: what a stream took, frame by frame, and in which batches its frames ran. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from naiad.core.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad_client import DetectResult, Face, FrameResult, Timing

SERVER_PARTS = ("decode", "preprocess", "queue", "infer", "postprocess", "total")
"""The parts of `naiad_client.Timing`, without their unit."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` (0 to 100) of them do not exceed: one that occurred.

    Raises:
        InternalError: there are no values.
    """
    if not values:
        raise InternalError("a percentile of no values was asked for")
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


@dataclass(frozen=True, slots=True)
class PhotoFigures:
    """What one version found in the photo, `calls` times the same, and its median time on the server."""

    model: str
    version: str
    faces: list[Face]
    calls: int
    server_ms: float

    @classmethod
    def of(cls, results: Sequence[DetectResult]) -> PhotoFigures:
        """The figures of several calls with the same picture."""
        last = results[-1]
        server_ms = median(result.timing.total_us for result in results) / 1000
        return cls(last.model, last.version, last.faces, len(results), server_ms)


@dataclass(frozen=True, slots=True)
class BatchFigures:
    """How often a batch of each size ran."""

    runs: dict[int, int]

    @classmethod
    def between(cls, before: Mapping[int, int], after: Mapping[int, int]) -> BatchFigures:
        """The runs by batch size that came between two readings of a version's statistics."""
        gone = {size: count - before.get(size, 0) for size, count in after.items()}
        return cls({size: count for size, count in sorted(gone.items()) if count > 0})

    @property
    def pictures(self) -> int:
        """Pictures in all the batches."""
        return sum(size * count for size, count in self.runs.items())

    @property
    def average(self) -> float:
        """Pictures a run; 0 without any."""
        return self.pictures / sum(self.runs.values()) if self.runs else 0.0

    @property
    def largest(self) -> int:
        """The largest batch; 0 without any."""
        return max(self.runs, default=0)


@dataclass(slots=True)
class StreamFigures:
    """What a stream's frames took; `add` each as it comes.

    Attributes:
        version: the model version that was asked for.
        batches: in which batches the frames ran; known at the end.
        seconds: from the opening of the stream to the last result so far.
        frames: results so far.
        with_face: those with at least one face.
        client_ms: of each frame, from the moment the client took it to its result.
        server_ms: the same by part of the server's own timing.
    """

    version: str
    batches: BatchFigures = field(default_factory=lambda: BatchFigures({}))
    seconds: float = 0.0
    frames: int = 0
    with_face: int = 0
    client_ms: list[float] = field(default_factory=list)
    server_ms: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in SERVER_PARTS})

    @property
    def frames_per_second(self) -> float:
        """Frames answered a second; 0 before the first."""
        return self.frames / self.seconds if self.seconds else 0.0

    def add(self, frame: FrameResult[DetectResult], *, now_us: int, seconds: float) -> None:
        """Count one more frame.

        Args:
            frame: its result.
            now_us: Unix time of the result's arrival, as `frame.capture_time_us`, microseconds.
            seconds: since the stream was opened.

        Raises:
            InternalError: the frame failed, or another version answered.
        """
        if frame.result is None:
            raise InternalError(f"frame {frame.frame_id} of the stream failed: {frame.error}")
        if frame.result.version != self.version:
            raise InternalError(f"version {self.version} was asked, version {frame.result.version} answered")
        self.seconds = seconds
        self.frames += 1
        self.with_face += bool(frame.result.faces)
        self.client_ms.append((now_us - frame.capture_time_us) / 1000)
        for part, milliseconds in server_parts_ms(frame.result.timing).items():
            self.server_ms[part].append(milliseconds)


def server_parts_ms(timing: Timing) -> dict[str, float]:
    """The server's own timing of one picture, by part, in milliseconds."""
    return {part: getattr(timing, f"{part}_us") / 1000 for part in SERVER_PARTS}
