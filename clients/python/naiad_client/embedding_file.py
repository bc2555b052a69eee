"""A file of embeddings, as `naiad embed --migrate` writes it: lines of JSON, all of one embedding space.

The first line tells the space; each further one is a picture: its path, a hash of its content, and its faces.
A picture that was embedded again has a line for each time, of which the last counts. Vectors are base64 of
float32, little-endian. A last line without its end was cut short, and does not count.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

FORMAT = "naiad-embeddings"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class EmbeddingHeader:
    """What all vectors of a file have in common.

    Attributes:
        embedding_space: their space.
        model: the embedder that made them.
        version: its version.
        finds_faces: whether pictures are photos with any number of faces; else each is one aligned crop.
    """

    embedding_space: str
    model: str
    version: str
    finds_faces: bool


@dataclass(frozen=True, slots=True, eq=False)
class StoredFace:
    """One face of a picture.

    Attributes:
        embedding: float32 [D].
        place: box, score and landmarks where it was found in a photo, as in JSON; empty of a crop.
    """

    embedding: npt.NDArray[np.float32]
    place: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class StoredPicture:
    """One picture's faces.

    Attributes:
        path: below the folder that was embedded, with slashes.
        content: BLAKE2b of the file's bytes, 32 hexadecimal digits.
        faces: none if the photo shows none.
    """

    path: str
    content: str
    faces: Sequence[StoredFace]


class StoredEmbeddings(NamedTuple):
    """What is in a file: what all have in common, None of a file that is empty, and the pictures by path."""

    header: EmbeddingHeader | None
    pictures: dict[str, StoredPicture]


def read_embeddings(path: str | os.PathLike[str]) -> StoredEmbeddings:
    """All embeddings in a file, held in memory.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or a line in it is damaged; names the line.
    """
    header: EmbeddingHeader | None = None
    pictures: dict[str, StoredPicture] = {}
    for entry, _ in scan_embeddings(path):
        if isinstance(entry, EmbeddingHeader):
            header = entry
        else:
            pictures[entry.path] = entry
    return StoredEmbeddings(header, pictures)


def scan_embeddings(
    path: str | os.PathLike[str],
) -> Iterator[tuple[EmbeddingHeader | StoredPicture, int]]:
    """A file's lines one by one, the header first, each with the place in bytes where it ends.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or a line in it is damaged; names the line.
    """
    header: EmbeddingHeader | None = None
    end = 0
    with open(path, "rb") as file:  # noqa: PTH123  # any path
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and header is not None:
                return  # cut short
            try:
                told = json.loads(line)
                entry = _header(told) if header is None else _picture(told)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"line {number} of '{path}' is none of a file of embeddings: {error}"
                ) from None
            if isinstance(entry, EmbeddingHeader):
                header = entry
            end += len(line)
            yield entry, end


def header_line(header: EmbeddingHeader) -> bytes:
    """The first line of a file."""
    return _line(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "embedding_space": header.embedding_space,
            "model": header.model,
            "version": header.version,
            "finds_faces": header.finds_faces,
        }
    )


def picture_line(picture: StoredPicture) -> bytes:
    """A further line."""
    faces = [
        {"embedding": base64.b64encode(face.embedding.astype("<f4").tobytes()).decode(), **face.place}
        for face in picture.faces
    ]
    return _line({"path": picture.path, "content": picture.content, "faces": faces})


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _header(told: Any) -> EmbeddingHeader:
    if told["format"] != FORMAT:
        raise ValueError(f"its format is {told['format']!r}, not {FORMAT!r}")
    if told["format_version"] != FORMAT_VERSION:
        raise ValueError(f"its version is {told['format_version']!r}, this Naiad reads {FORMAT_VERSION}")
    return EmbeddingHeader(
        embedding_space=str(told["embedding_space"]),
        model=str(told["model"]),
        version=str(told["version"]),
        finds_faces=bool(told["finds_faces"]),
    )


def _picture(told: Any) -> StoredPicture:
    return StoredPicture(str(told["path"]), str(told["content"]), [_face(face) for face in told["faces"]])


def _face(told: dict[str, Any]) -> StoredFace:
    place = dict(told)
    data = base64.b64decode(place.pop("embedding"), validate=True)
    return StoredFace(np.frombuffer(data, "<f4").astype(np.float32, copy=False), place)
