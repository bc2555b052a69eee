"""The work of `naiad detect` and `naiad embed`: photos, several at a time, for batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from naiad.cli.client_side import as_json, complain, connected, counted, progress, say
from naiad.core import errors
from naiad.demo import picture
from naiad_client import (
    AnalyzeResult,
    DetectResult,
    Finder,
    InternalError,
    InvalidArgumentError,
    NaiadError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from naiad_client import Client
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


def run_photos(job: PhotoJob, paths: Sequence[Path]) -> int:
    """Say what is in each photo, in their order; returns the exit code, 1 if any failed.

    A folder stands for the photos that lie in it, by name, and not for those of folders within it.

    Raises:
        InvalidArgumentError: a folder has no photos, two would be written to one file, or one written over.
        NaiadError: nobody answers, or pictures cannot be written.
    """
    photos = [photo for path in paths for photo in _photos_of(path)]
    if job.output is not None:
        _check_targets(job.output, photos)
        _make(job.output)
    failed = 0
    with (
        connected(job.server, detector=job.model, mode=job.mode) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
        progress("Photos", len(photos)) as done,
    ):
        for photo, result in zip(photos, pool.map(lambda each: _ask(client, job, each), photos), strict=True):
            if isinstance(result, DetectResult | AnalyzeResult):
                _tell(job, photo, result)
            else:
                failed += 1
                complain(f"{photo}: {reason(result)}")
            done()
    return 1 if failed else 0


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
