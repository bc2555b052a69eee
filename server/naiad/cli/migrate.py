"""`naiad embed --migrate`: a folder of pictures embedded anew by another version of a model, and resumed."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from naiad.cli.client_side import complain, connected, counted, progress, say
from naiad.cli.migration_file import MigrationFile
from naiad.cli.photos import SUFFIXES, reason
from naiad.core import errors
from naiad_client import Finder, InternalError, InvalidArgumentError, NaiadError, ResourceExhaustedError
from naiad_client.embedding_file import EmbeddingHeader, StoredFace, StoredPicture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from naiad_client import AnalyzeResult, Client, EmbedResult, Face
    from naiad_client.modes import Mode

CROPS_A_CALL = 32
"""Crops in one request: some full batches, and not so many that one bad file costs much."""
CALLS_AT_ONCE = 4
PHOTOS_AT_ONCE = 8

Failure: TypeAlias = NaiadError | OSError | ValueError


@dataclass(frozen=True, slots=True)
class MigrationJob:
    """What is to be embedded, by whom, and where the vectors go.

    `finds_faces`: the pictures are photos, whose faces the detector `model` finds; else each is one aligned
    crop.
    """

    server: str
    mode: Mode
    model: str
    embedder: str
    version: int
    folder: Path
    output: Path
    finds_faces: bool = False
    score_threshold: float | None = None


class _Picture(NamedTuple):
    """A picture's content, read just now."""

    path: str
    data: bytes
    content: str


class _Made(NamedTuple):
    """What a version made of one picture, and of which kind its vectors are."""

    picture: StoredPicture
    header: EmbeddingHeader


class _Failed(NamedTuple):
    path: str
    failure: Failure


class _Same(NamedTuple):
    """A picture that the file has already."""

    path: str


_Outcome: TypeAlias = _Made | _Failed | _Same


@dataclass(slots=True)
class _Count:
    made: int = 0
    same: int = 0
    failed: list[str] = field(default_factory=list)


def run_migration(job: MigrationJob) -> int:
    """Embed what the output does not have yet; returns the exit code, 1 if any picture failed.

    Raises:
        InvalidArgumentError: the folder has no pictures, or the output holds vectors of another space.
        NaiadError: nobody answers, or the output cannot be written.
    """
    paths = pictures_below(job.folder)
    with MigrationFile(job.output) as output:
        output.check_kind(finds_faces=job.finds_faces)
        known = sum(path in output.done for path in paths)
        say(f"{job.output}: {known} of {counted(len(paths), 'picture')} so far, {len(paths) - known} left")
        started_s = time.monotonic()
        count = _migrate(job, paths, output)
        _tell(job, output, count, len(paths), time.monotonic() - started_s)
    return 1 if count.failed else 0


def pictures_below(folder: Path) -> list[str]:
    """The pictures in a folder and those within it, as paths below it with slashes, sorted.

    Raises:
        InvalidArgumentError: there are none, or a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise errors.InvalidArgumentError(
            f"cannot read the folder {error.filename}: {error.strerror}"
        ) from None

    found = [
        (Path(root) / name).relative_to(folder).as_posix()
        for root, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    if not found:
        raise errors.InvalidArgumentError(f"the folder {folder} has no {', '.join(sorted(SUFFIXES))} files")
    return sorted(found)


def _migrate(job: MigrationJob, paths: Sequence[str], output: MigrationFile) -> _Count:
    """Hand groups of pictures to threads, a few at a time, and write what comes of them."""
    size, at_once = (1, PHOTOS_AT_ONCE) if job.finds_faces else (CROPS_A_CALL, CALLS_AT_ONCE)
    groups = iter([paths[start : start + size] for start in range(0, len(paths), size)])
    count = _Count()
    with (
        connected(job.server, detector=job.model, embedder=job.embedder, mode=job.mode) as client,
        ThreadPoolExecutor(at_once) as pool,
        progress("Pictures", len(paths)) as done,
    ):
        working: set[Future[list[_Outcome]]] = set()
        while True:
            while len(working) < at_once and (group := next(groups, None)) is not None:
                known = {path: output.done[path] for path in group if path in output.done}
                working.add(pool.submit(_embed_group, client, job, group, known))
            if not working:
                return count
            ended, working = wait(working, return_when=FIRST_COMPLETED)
            for future in ended:
                for outcome in future.result():
                    _keep(output, outcome, count)
                    done()


def _keep(output: MigrationFile, outcome: _Outcome, count: _Count) -> None:
    if isinstance(outcome, _Failed):
        count.failed.append(outcome.path)
        complain(f"{outcome.path}: {reason(outcome.failure)}")
    elif isinstance(outcome, _Made):
        count.made += 1
        output.begin(outcome.header)
        output.add(outcome.picture)
    else:
        count.same += 1


def _tell(job: MigrationJob, output: MigrationFile, count: _Count, total: int, seconds: float) -> None:
    say(
        f"{counted(count.made, 'picture')} embedded in {seconds:.1f} s, {count.same} had not changed, "
        f"{len(count.failed)} failed"
    )
    left = f"{len(count.failed)} of {counted(total, 'picture')} below {job.folder} left in the old space"
    header = output.header
    if header is not None:
        left += f"; the others are in {header.embedding_space} ({header.model}/{header.version})"
    say(left)


def _embed_group(
    client: Client, job: MigrationJob, paths: Sequence[str], known: dict[str, str]
) -> list[_Outcome]:
    """What becomes of each picture of a group; that nobody answers is raised."""
    outcomes: list[_Outcome] = []
    pictures: list[_Picture] = []
    for path in paths:
        try:
            data = _read(job.folder / path)
        except (OSError, ValueError) as error:
            outcomes.append(_Failed(path, error))
            continue
        content = hashlib.blake2b(data, digest_size=16).hexdigest()
        if known.get(path) == content:
            outcomes.append(_Same(path))
        else:
            pictures.append(_Picture(path, data, content))
    outcomes += _embed(client, job, pictures)
    return outcomes


def _read(path: Path) -> bytes:
    """A file's content; raises OSError, or ValueError for a pipe, which might never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    return path.read_bytes()


def _embed(client: Client, job: MigrationJob, pictures: Sequence[_Picture]) -> Iterator[_Outcome]:
    if not pictures:
        return
    ask = _ask_photo if job.finds_faces else _ask_crops
    try:
        yield from ask(client, job, pictures)
    except (InvalidArgumentError, InternalError, ResourceExhaustedError, ValueError) as error:
        if len(pictures) == 1:
            yield _Failed(pictures[0].path, error)
            return
        for picture in pictures:  # one of them is at fault, and is told by name
            yield from _embed(client, job, [picture])


def _ask_crops(client: Client, job: MigrationJob, pictures: Sequence[_Picture]) -> list[_Made]:
    result = client.embed_crops([picture.data for picture in pictures], version=job.version)
    header = _header(job, result, result.model, result.version)
    return [
        _Made(StoredPicture(picture.path, picture.content, [StoredFace(vector, {})]), header)
        for picture, vector in zip(pictures, result.embeddings, strict=True)
    ]


def _ask_photo(client: Client, job: MigrationJob, pictures: Sequence[_Picture]) -> list[_Made]:
    [picture] = pictures
    finder = Finder(score_threshold=job.score_threshold)
    result = client.analyze(picture.data, finder=finder, version=job.version)
    faces = [StoredFace(face.embedding, _place(face)) for face in result.faces if face.embedding is not None]
    header = _header(job, result, result.embedder, result.embedder_version)
    return [_Made(StoredPicture(picture.path, picture.content, faces), header)]


def _place(face: Face) -> dict[str, object]:
    told: dict[str, object] = {"box": list(face.box), "score": face.score}
    if face.landmarks is not None:
        told["landmarks"] = face.landmarks.tolist()
    return told


def _header(
    job: MigrationJob, result: EmbedResult | AnalyzeResult, model: str, version: str
) -> EmbeddingHeader:
    """Of which kind an answer's vectors are; raises InvalidArgumentError if the server does not say."""
    if not result.embedding_space:
        raise errors.InvalidArgumentError(
            f"the server at {job.server} does not tell embedding spaces, so its vectors could be mixed up: "
            "update it"
        )
    return EmbeddingHeader(result.embedding_space, model, version, job.finds_faces)
