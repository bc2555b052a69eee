"""How alike two faces are: each found, aligned and embedded as far as it is not yet a vector."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD
from naiad.dataplane.faces.answers import CompareAnswer, FoundFace
from naiad.dataplane.faces.detect import find
from naiad.dataplane.faces.embed import check_landmarks, embed_rows, row_at, row_of_detection
from naiad.dataplane.faces.images import decode, named
from naiad.dataplane.faces.inference import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.dataplane.faces.images import ImageSource, Picture
    from naiad.dataplane.faces.inference import Stage
    from naiad.dataplane.faces.models import Finder
    from naiad.dataplane.faces.rows import Row
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections
    from naiad.vision.embedder import Embedder
    from naiad.vision.images import ImageLimits


@dataclass(frozen=True, slots=True, eq=False)
class ComparedSide:
    """One of two faces: exactly one of a picture, an aligned crop and a vector (float32 `[d]`).

    `name` is what errors call it. `landmarks`, float32 `[5, 2]`, say where the face is in `image`; without
    them the largest one is found. `space` is the embedding space of `vector`, empty if that is unknown.
    """

    name: str
    image: ImageSource | None = None
    crop: ImageSource | None = None
    vector: Floats | None = None
    landmarks: npt.NDArray[np.float32] | None = None
    space: str = ""

    @property
    def is_searched(self) -> bool:
        """Whether the face must be found first."""
        return self.image is not None and self.landmarks is None


class _Face(NamedTuple):
    """A face to embed: where it lies in a picture."""

    side: ComparedSide
    picture: Picture
    detection: Detections | None = None


async def compare(
    detector: Stage | None,
    embedder: Stage,
    sides: tuple[ComparedSide, ComparedSide],
    finder: Finder,
) -> CompareAnswer:
    """Compare two faces; see `FacePlane.compare`. `detector` is None if nothing is searched."""
    for side in sides:
        _check_vector(side, embedder.handle)
    faces = await _faces(embedder, sides)
    known = {
        side: FoundFace(side.vector, embedding_space=side.space) for side in sides if side.vector is not None
    }
    space = embedder.handle.embedding_space
    if faces:
        with embedder.workshop.held.hold(face.picture for face in faces):
            if detector is not None:
                faces = await _found(detector, embedder.handle, faces, finder)
            vectors = await embed_rows(embedder, partial(_rows, faces=faces), normalize=None)
        for face, vector in zip(faces, vectors, strict=True):
            known[face.side] = FoundFace(vector, face.detection, space)
    first, second = (known[side] for side in sides)
    similarity = _cosine(first.embedding, second.embedding)
    embedder.times.finish()
    times = embedder.times if detector is None else embedder.times.with_stage(detector.times)
    return CompareAnswer(embedder.handle.key, similarity, first, second, times, space)


async def _faces(stage: Stage, sides: Sequence[ComparedSide]) -> list[_Face]:
    """The decoded pictures of the sides that are no vectors."""
    pictured = [side for side in sides if side.vector is None]
    jobs = (stage.workshop.pool.run(partial(_decode_side, side, stage.workshop.limits)) for side in pictured)
    decoded = await together(jobs)
    stage.times.decode_ns = max((decode_ns for _, decode_ns in decoded), default=0)
    return [_Face(side, picture) for side, (picture, _) in zip(pictured, decoded, strict=True)]


def _decode_side(side: ComparedSide, limits: ImageLimits) -> tuple[Picture, int]:
    """The picture of a side, and how many nanoseconds it took."""
    start_ns = time.monotonic_ns()
    source = side.crop if side.image is None else side.image
    assert source is not None, "a side is a picture, a crop or a vector"
    with named(f"{side.name}.{'crop' if side.image is None else 'image'}"):
        picture = decode(source, limits)
    return picture, time.monotonic_ns() - start_ns


async def _found(
    detector: Stage, embedder: ModelHandle, faces: Sequence[_Face], finder: Finder
) -> list[_Face]:
    """The faces again, those that are searched with the largest one that was found; both in one batch."""
    pictures = [face.picture for face in faces if face.side.is_searched]
    found = iter(await find(detector, pictures, finder))
    result = []
    for face in faces:
        if not face.side.is_searched:
            result.append(face)
            continue
        detections = next(found)
        check_landmarks(embedder, detector.handle, detections)
        if not len(detections):
            raise InvalidArgumentError(f"no face was found in {face.side.name}.image")
        result.append(face._replace(detection=detections.take(_largest(detections))))
    return result


def _largest(detections: Detections) -> npt.NDArray[np.int64]:
    sides = np.maximum(detections.boxes[:, 2:] - detections.boxes[:, :2], 0)
    return np.array([int(np.argmax(sides.prod(axis=1)))])


def _rows(embedder: Embedder, faces: Sequence[_Face]) -> list[Row]:
    rows = []
    for face in faces:
        with named(face.side.name):
            if face.detection is None:
                rows.append(row_at(embedder, face.picture, face.side.landmarks))
            else:
                rows.append(row_of_detection(embedder, face.picture, face.detection, 0))
    return rows


def _check_vector(side: ComparedSide, embedder: ModelHandle) -> None:
    """See that a given vector can be one of the embedder's.

    Raises:
        InvalidArgumentError: it has another length, or no direction.
    """
    if side.vector is None:
        return
    length = _vector_length(embedder)
    if length is not None and len(side.vector) != length:
        raise InvalidArgumentError(
            f"{side.name}.embedding has {len(side.vector)} values, those of embedder '{embedder.key.name}' "
            f"have {length}"
        )
    if not np.isfinite(side.vector).all() or not side.vector.any():
        raise InvalidArgumentError(
            f"{side.name}.embedding has no direction: its values must be finite and not all zero"
        )


def _vector_length(embedder: ModelHandle) -> int | None:
    """How many values the embedder's vectors have; None if its config leaves it open."""
    config = embedder.config
    assert config.vision is not None
    assert config.vision.embed is not None
    [dims] = [output.dims for output in config.outputs if output.name == config.vision.embed.tensor]
    if not config.max_batch_size and len(dims) > 1:
        dims = dims[1:]  # the batch of one that is written in the graph
    return None if WILDCARD in dims else int(np.prod(dims))


def _cosine(first: Floats, second: Floats) -> float:
    if len(first) != len(second):
        raise InvalidArgumentError(
            f"first.embedding has {len(first)} values and second.embedding {len(second)}: "
            "they are not of the same embedder"
        )
    lengths = float(np.linalg.norm(first.astype(np.float64)) * np.linalg.norm(second.astype(np.float64)))
    if not lengths:
        return 0.0  # a model that gave zeros says nothing
    return float(np.clip(first.astype(np.float64) @ second.astype(np.float64) / lengths, -1, 1))
