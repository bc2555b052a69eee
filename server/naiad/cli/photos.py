"""The work of `naiad detect` and `naiad embed`: photos, several at a time, for batches."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from naiad.cli.client_side import as_json, complain, connected, counted, note, progress, say
from naiad.core import errors
from naiad.demo import picture
from naiad_client import (
    AnalyzeResult,
    DetectResult,
    Finder,
    InternalError,
    InvalidArgumentError,
    NaiadError,
    NotFoundError,
    ResourceExhaustedError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from naiad_client import Client, StreamSession
    from naiad_client.modes import Mode

Result: TypeAlias = DetectResult | AnalyzeResult
Failure: TypeAlias = NaiadError | OSError | ValueError

AT_ONCE = 8
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
"""Of a folder's files, those that are photos."""


@dataclass(frozen=True, slots=True)
class PhotoJob:
    """What is to be done with each photo; without an `embedder` (None) faces are only found."""

    server: str
    model: str
    embedder: str | None
    output: Path | None
    score_threshold: float | None
    json: bool
    mode: Mode = "naiad"
    quiet: bool = False


@dataclass(slots=True)
class Tally:
    """What the photos came to."""

    photos: int = 0
    faces: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{counted(self.photos, 'photo')}, {counted(self.faces, 'face')}, {self.failed} failed"


def run_photos(job: PhotoJob, paths: Sequence[Path]) -> int:
    """Say what is in each photo, in their order; returns the exit code, 1 if any failed.

    What they came to is said on standard error at the end, unless the job is quiet. A folder stands for the
    photos that lie in it, by name, and not for those of folders within it.

    Raises:
        InvalidArgumentError: a folder has no photos, two would be written to one file, or one written over;
            or the server refuses the models before any photo is sent, such as for none named of several.
        NaiadError: nobody answers, or pictures cannot be written.
    """
    photos = [photo for path in paths for photo in _photos_of(path)]
    if job.output is not None:
        _check_targets(job.output, photos)
        _make(job.output)
    tally, started_s = Tally(), time.monotonic()
    with connected(job.server, detector=job.model, mode=job.mode) as client:
        _check_models(client, job)
        _work(client, job, photos, tally)
    if not job.quiet:
        note(f"{tally} in {time.monotonic() - started_s:.1f} s")
    return 1 if tally.failed else 0


def _check_models(client: Client, job: PhotoJob) -> None:
    """Open a stream of such work and send nothing: what the server refuses of it holds for all photos."""
    try:
        if job.embedder is None:
            stream: StreamSession[Any] = client.open_stream("detect", score_threshold=job.score_threshold)
        else:
            finder = Finder(score_threshold=job.score_threshold)
            stream = client.open_stream("analyze", model=job.embedder, finder=finder)
        stream.close()
    except (InvalidArgumentError, NotFoundError) as error:
        flags = "--model" if job.embedder is None else "--model and --embedder"
        raise errors.InvalidArgumentError(f"{error.message} (at {job.server}; see {flags})") from None
    except (InternalError, ResourceExhaustedError, UnsupportedError):
        return  # that may be so of streams alone: the photos will tell


def _work(client: Client, job: PhotoJob, photos: Sequence[Path], tally: Tally) -> None:
    """Ask for several photos at a time, and tell of each in turn."""
    with (
        ThreadPoolExecutor(AT_ONCE) as pool,
        progress("Photos", len(photos), hidden=job.quiet) as done,
    ):
        for photo, result in zip(photos, pool.map(lambda each: _ask(client, job, each), photos), strict=True):
            tally.photos += 1
            if isinstance(result, DetectResult | AnalyzeResult):
                tally.faces += len(result.faces)
                _tell(job, photo, result)
            else:
                tally.failed += 1
                complain(f"{photo}: {reason(result)}")
            done()


def _photos_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:
        raise errors.InvalidArgumentError(f"cannot read the folder {path}: {error.strerror}") from None
    if not found:
        raise errors.InvalidArgumentError(f"the folder {path} has no {', '.join(sorted(SUFFIXES))} files")
    return found


def reason(failure: Failure) -> str:
    """Why a photo failed; an OSError would tell its number and name the file again."""
    return (isinstance(failure, OSError) and failure.strerror) or str(failure)


def _ask(client: Client, job: PhotoJob, photo: Path) -> Result | Failure:
    """One photo's result, or why there is none; that nobody answers is the end of all."""
    try:
        if job.embedder is None:
            return client.detect(photo, score_threshold=job.score_threshold)
        finder = Finder(score_threshold=job.score_threshold)
        return client.analyze(photo, model=job.embedder, finder=finder)
    except (InvalidArgumentError, InternalError, ResourceExhaustedError, OSError, ValueError) as error:
        return error


def _tell(job: PhotoJob, photo: Path, result: Result) -> None:
    if job.json:
        say(as_json(result, file=str(photo)))
    else:
        say(f"{photo}: {_summary(result)}")
        for face in result.faces:
            box = " ".join(f"{edge:.0f}" for edge in face.box)
            vector = "" if face.embedding is None else f"  {face.embedding.size} numbers"
            say(f"  {face.score:.3f}  {box}{vector}")
    if job.output is not None:
        pixels = picture.decode(photo.read_bytes())
        drawn = picture.with_faces(pixels, result.faces, pixels.shape[1])
        picture.save(_target(job.output, photo), drawn)


def _summary(result: Result) -> str:
    faces = counted(len(result.faces), "face")
    if isinstance(result, AnalyzeResult):
        by = f"{result.detector}/{result.detector_version}, {result.embedder}/{result.embedder_version}"
    else:
        by = f"{result.model}/{result.version}"
    return f"{faces} by {by} in {result.timing.total_us / 1000:.1f} ms"


def _target(folder: Path, photo: Path) -> Path:
    return folder / f"{photo.stem}.jpg"


def _check_targets(folder: Path, photos: Sequence[Path]) -> None:
    """Refuse what would lose a picture; said before any is sent."""
    resolved = {photo.resolve() for photo in photos}
    taken: dict[Path, Path] = {}
    for photo in photos:
        target = _target(folder, photo).resolve()
        if target in resolved:
            raise errors.InvalidArgumentError(
                f"{_target(folder, photo)} is one of the photos: name another folder with --output"
            )
        if taken.setdefault(target, photo).resolve() != photo.resolve():
            raise errors.InvalidArgumentError(
                f"{taken[target]} and {photo} would both be written as {_target(folder, photo)}"
            )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.InvalidArgumentError(f"cannot make the folder {folder}: {error.strerror}") from None
