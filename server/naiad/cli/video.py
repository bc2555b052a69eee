"""The work of `naiad video`: frames through a stream, drawn on as their results come."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2

from naiad.cli.client_side import as_json, complain, connected, counted, progress, say
from naiad.core.errors import InvalidArgumentError
from naiad.demo import picture
from naiad_client import Finder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from naiad.demo.picture import Picture
    from naiad_client import Client, FrameResult, StreamSession

_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
_DEFAULT_FPS = 25.0
"""Where a source does not know its own."""


@dataclass(frozen=True, slots=True)
class VideoJob:
    """What is to be done with each frame; without an `embedder` (None) faces are only found."""

    server: str
    model: str
    embedder: str | None
    tracks: bool
    score_threshold: float | None
    json: bool


@dataclass(slots=True)
class Tally:
    """What a video came to."""

    frames: int = 0
    with_faces: int = 0
    failed: int = 0
    tracks: set[int] = field(default_factory=set)


def run_video(job: VideoJob, source: str, target: Path) -> int:
    """Write the video, drawn on; returns the exit code, 1 if any frame failed.

    Raises:
        NaiadError: nobody answers, the source cannot be read or the target cannot be written.
    """
    if target.exists() and os.path.exists(source) and target.samefile(source):  # noqa: PTH110 - may be a URL
        raise InvalidArgumentError(f"{target} is the video that is read: name another file to write")
    with _reading(source) as capture, connected(job.server, detector=job.model, color="bgr") as client:
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        started = time.monotonic()
        with progress("Frames", frames if frames > 0 else None) as done, _open(client, job) as session:
            tally = _work(job, capture, session, target, done)
        seconds = time.monotonic() - started
    if not job.json:
        numbered = f", {counted(len(tally.tracks), 'track')}" if job.tracks else ""
        say(
            f"{target}: {counted(tally.frames, 'frame')}, {tally.with_faces} with faces{numbered}, "
            f"{tally.frames / seconds:.1f} frames/s"
        )
    return 1 if tally.failed else 0


def _open(client: Client, job: VideoJob) -> StreamSession[Any]:
    if job.embedder is None:
        return client.open_stream("detect", tracks=job.tracks, score_threshold=job.score_threshold)
    return client.open_stream(
        "analyze",
        model=job.embedder,
        finder=Finder(score_threshold=job.score_threshold),
        tracks=job.tracks,
        embed_when="once_a_track" if job.tracks else "every_face",
    )


def _work(
    job: VideoJob, capture: Any, session: StreamSession[Any], target: Path, done: Callable[[], None]
) -> Tally:
    """Send each frame, and draw each whose result has come; no more frames lie here than are in flight."""
    tally, waiting = Tally(), dict[int, Any]()
    with _writing(target, capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS) as write:

        def take(result: FrameResult[Any]) -> None:
            write(_drawn(job, tally, waiting.pop(result.frame_id), result))
            done()

        while (read := capture.read())[0]:
            waiting[tally.frames] = read[1]
            session.send(read[1], frame_id=tally.frames)
            tally.frames += 1
            for result in session.ready():
                take(result)
        session.finish()
        for result in session:
            take(result)
    if not tally.frames:
        raise InvalidArgumentError(f"the video has no frames, so that {target} was not written")
    return tally


def _drawn(job: VideoJob, tally: Tally, pixels: Picture, result: FrameResult[Any]) -> Picture:
    """The frame with its faces, and its result told; one that failed is as it was."""
    if result.result is None:
        tally.failed += 1
        complain(f"frame {result.frame_id}: {result.error}")
        return pixels
    faces = result.result.faces
    tally.with_faces += bool(faces)
    tally.tracks.update(face.track_id for face in faces if face.track_id is not None)
    if job.json:
        say(as_json(result.result, frame=result.frame_id))
    return picture.with_faces(pixels, faces, pixels.shape[1])


@contextmanager
def _reading(source: str) -> Iterator[Any]:
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise InvalidArgumentError(f"OpenCV cannot open the video '{source}'")
        yield capture
    finally:
        capture.release()


@contextmanager
def _writing(target: Path, frames_per_second: float) -> Iterator[Callable[[Picture], None]]:
    """What writes a frame; the file is made with the first one, whose size it has."""
    if target.suffix.lower() not in _CODECS:
        raise InvalidArgumentError(f"{target} should end in {' or '.join(_CODECS)}")
    writer: Any = None
    codec = cv2.VideoWriter.fourcc(*_CODECS[target.suffix.lower()])

    def write(pixels: Picture) -> None:
        nonlocal writer
        if writer is None:
            writer = cv2.VideoWriter(str(target), codec, frames_per_second, pixels.shape[1::-1])
            if not writer.isOpened():
                raise InvalidArgumentError(f"OpenCV cannot write the video {target}")
        writer.write(pixels)

    try:
        yield write
    finally:
        if writer is not None:
            writer.release()
