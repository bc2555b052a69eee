"""Faces of pictures to vectors: planned as crops, run in full batches, read and normalised."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.dataplane.faces.images import decode, named
from naiad.dataplane.faces.inference import infer, prepare
from naiad.dataplane.faces.rows import Row
from naiad.vision.alignment import ARCFACE
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from naiad.dataplane.faces.also import Shared
    from naiad.dataplane.faces.images import ImageSource, Picture
    from naiad.dataplane.faces.inference import Prepared, Stage
    from naiad.dataplane.faces.times import StageTimes
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections
    from naiad.vision.images import ImageLimits

    Landmarks = Sequence[npt.NDArray[np.float32]]


async def embed_rows(
    stage: Stage, plan: Callable[[Embedder], list[Row]], *, normalize: bool | None
) -> Floats:
    """The vectors, float32 `[n, d]`, of the rows that `plan` makes on a thread of the pool."""
    prepared = await stage.workshop.pool.run(partial(plan_and_prepare, stage, plan))
    return await run_prepared(stage, prepared, normalize=normalize)


async def run_prepared(stage: Stage, prepared: Sequence[Prepared], *, normalize: bool | None) -> Floats:
    """The vectors of rows that were made ready.

    Raises:
        UnavailableError: also where an ensemble's models changed meanwhile: whose the vectors are is unknown.
    """
    if not prepared:
        return np.empty((0, 0), np.float32)
    space = stage.handle.embedding_space
    responses = await infer(stage, prepared)
    if stage.handle.embedding_space != space:
        raise UnavailableError(f"the models of '{stage.handle.key.name}' changed meanwhile: try again")
    # Not worth the way to another thread and back: a few kilobytes.
    start_ns = time.monotonic_ns()
    embedder = _embedder(stage.handle)
    vectors = np.concatenate(
        [embedder.vectors(response.outputs, normalize=normalize) for response in responses]
    )
    stage.times.postprocess_ns += time.monotonic_ns() - start_ns
    return vectors


def rows_of_landmarks(
    embedder: Embedder,
    source: ImageSource,
    landmarks: Landmarks,
    limits: ImageLimits,
    times: StageTimes,
    *,
    shared: Shared | None = None,
) -> list[Row]:
    """One row for each face of a picture that landmarks tell; none are given: the picture is a crop."""
    start_ns = time.monotonic_ns()
    picture = decode(source, limits) if shared is None else shared.decode(source, limits)
    times.decode_ns += time.monotonic_ns() - start_ns
    if not landmarks:
        return [row_at(embedder, picture, None)]
    return [row_at(embedder, picture, points, face, shared) for face, points in enumerate(landmarks)]


def rows_of_crops(
    embedder: Embedder,
    crops: Sequence[ImageSource],
    limits: ImageLimits,
    times: StageTimes,
    *,
    shared: Shared | None = None,
) -> list[Row]:
    """One row for each aligned crop; errors begin with the crop's place in the request."""
    rows = []
    for index, source in enumerate(crops):
        with named(f"crops[{index}]"):
            rows += rows_of_landmarks(embedder, source, (), limits, times, shared=shared)
    return rows


def row_at(
    embedder: Embedder,
    picture: Picture,
    points: npt.NDArray[np.float32] | None,
    face: int = 0,
    shared: Shared | None = None,
) -> Row:
    """The row of a face with those landmarks, `[5, 2]`, or of a picture that is a crop."""
    crop = embedder.plan_crop(picture.pixels, points)
    return Row(embedder.preprocessor, picture, crop if shared is None else shared.cut(face, crop))


def row_of_detection(
    embedder: Embedder, picture: Picture, found: Detections, index: int, shared: Shared | None = None
) -> Row:
    """The row of a face that was found: aligned, or its box for a model that does not align.

    Raises:
        InvalidArgumentError: its landmarks give no alignment.
    """
    if not embedder.aligns:
        return Row(embedder.preprocessor, picture, embedder.plan_box(picture.pixels, found.boxes[index]))
    assert found.landmarks is not None, "who embeds has checked them"
    return row_at(embedder, picture, found.landmarks[index], index, shared)


class FoundFaces:
    """Plans the rows of chosen faces; `chosen` are then those that have one.

    A detector may give a face whose landmarks are no face's. It costs the others nothing.
    """

    def __init__(
        self,
        picture: Picture,
        found: Detections,
        chosen: npt.NDArray[np.int64],
        shared: Shared | None = None,
    ) -> None:
        self.chosen = chosen
        self._picture = picture
        self._found = found
        self._shared = shared

    def __call__(self, embedder: Embedder) -> list[Row]:
        """The rows, in the order of `chosen`."""
        rows = {}
        for index in self.chosen.tolist():
            with suppress(InvalidArgumentError):
                rows[index] = row_of_detection(embedder, self._picture, self._found, index, self._shared)
        self.chosen = np.array([index for index in self.chosen.tolist() if index in rows], np.int64)
        return [rows[index] for index in self.chosen.tolist()]


def check_landmarks(handle: ModelHandle, detector: ModelHandle, found: Detections) -> None:
    """See that faces were found in a way that lets the embedder take them.

    Raises:
        InvalidArgumentError: it aligns, and the detector gives no five landmarks.
    """
    count = 0 if found.landmarks is None else found.landmarks.shape[1]
    if _embedder(handle).aligns and count != len(ARCFACE):
        raise InvalidArgumentError(
            f"detector '{detector.key.name}' finds {count or 'no'} landmarks, embedder '{handle.key.name}' "
            f"aligns by {len(ARCFACE)}: name another detector in finder.model_name"
        )


def _embedder(handle: ModelHandle) -> Embedder:
    assert isinstance(handle.vision, Embedder)
    return handle.vision


def plan_and_prepare(stage: Stage, plan: Callable[[Embedder], list[Row]]) -> list[Prepared]:
    """Requests of the rows that `plan` makes. For a thread of the decode pool."""
    times = stage.times
    start_ns, decoded_ns = time.monotonic_ns(), times.decode_ns
    rows = plan(_embedder(stage.handle))
    # Aligning is pre-processing, what was decoded meanwhile is not.
    times.preprocess_ns += time.monotonic_ns() - start_ns - (times.decode_ns - decoded_ns)
    return prepare(stage, rows)
