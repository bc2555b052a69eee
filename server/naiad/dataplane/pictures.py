"""Whole image files to one batch of a vision model's input, and its raw outputs to faces."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.core.errors import InvalidArgumentError
from naiad.dataplane.faces.images import EncodedImage, decode, decode_for, named
from naiad.dataplane.faces.inference import together
from naiad.dataplane.faces.rows import Row
from naiad.vision.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array, Tensors
    from naiad.dataplane.decode_pool import DecodePool
    from naiad.lifecycle.loading import VisionModel
    from naiad.vision.detections import Detections
    from naiad.vision.images import ImageLimits
    from naiad.vision.transform import Transform


@dataclass(slots=True)
class PictureTimes:
    """Nanoseconds of threads that a request's pictures took, added up."""

    decode_ns: int = 0
    preprocess_ns: int = 0
    postprocess_ns: int = 0


class PictureBatch(NamedTuple):
    """The pictures of a request as a model's input, `[N, …]`, and each one's way back from there."""

    tensor: Array
    transforms: Sequence[Transform]


class PicturePlane:
    """Decodes, pre- and post-processes in the decode pool. Used on the event loop's thread."""

    def __init__(self, pool: DecodePool, limits: ImageLimits) -> None:
        self._pool = pool
        self._limits = limits

    async def prepare(
        self, vision: VisionModel, files: Sequence[bytes], times: PictureTimes, *, tensor: str
    ) -> PictureBatch:
        """Decode pictures side by side and write each into its place of one batch.

        Args:
            vision: of the model; an embedder takes each picture as one aligned crop.
            files: at least one whole JPEG, PNG, WebP or BMP file.
            times: what it takes is added to these.
            tensor: the input's name, for errors.

        Raises:
            InvalidArgumentError: a picture is broken or does not suit the model; the error says which one.
            ResourceExhaustedError: a picture is over a limit, or too many wait.
        """
        batch = _Batch(len(files))
        works = [
            partial(self._prepare_one, vision, data, index, batch, tensor) for index, data in enumerate(files)
        ]
        if len(works) == 1:
            done = [await self._pool.run(works[0])]
        else:
            done = await together(self._pool.run(work) for work in works)
        times.decode_ns += sum(each.decode_ns for each in done)
        times.preprocess_ns += sum(each.preprocess_ns for each in done)
        return PictureBatch(batch.tensor(), [each.transform for each in done])

    async def faces(
        self,
        detector: Detector,
        outputs: Tensors,
        transforms: Sequence[Transform],
        times: PictureTimes,
        *,
        score_threshold: float | None = None,
        max_faces: int | None = None,
    ) -> list[Detections]:
        """The faces of each picture of a batch, in pixels of the upright original; see `Head.decode`.

        Raises:
            NaiadError: as `Head.decode`; or too many wait for a decode thread.
        """

        def decode() -> list[Detections]:
            start_ns = time.monotonic_ns()
            found = detector.head.decode(
                outputs, transforms, score_threshold=score_threshold, max_faces=max_faces
            )
            times.postprocess_ns += time.monotonic_ns() - start_ns
            return found

        return await self._pool.run(decode)

    def _prepare_one(
        self, vision: VisionModel, data: bytes, index: int, batch: _Batch, tensor: str
    ) -> _Prepared:
        """On a thread of the pool."""
        start_ns = time.monotonic_ns()
        source, preprocessor = EncodedImage(data), vision.preprocessor
        with named(f"picture {index} (the first is 0) of input '{tensor}'"):
            if isinstance(vision, Detector):
                picture, crop = decode_for(source, self._limits, preprocessor), None
            else:
                picture = decode(source, self._limits)
                crop = vision.plan_crop(picture.pixels, None)
            decoded_ns = time.monotonic_ns()
            row = Row(preprocessor, picture, crop)
            slot = batch.slot(index, row)
        row.write(slot)
        return _Prepared(row.transform, decoded_ns - start_ns, time.monotonic_ns() - decoded_ns)


class _Prepared(NamedTuple):
    transform: Transform
    decode_ns: int
    preprocess_ns: int


class _Batch:
    """The buffer of a request's pictures: made for the first one that is decoded, of its input size."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._buffer: Array | None = None
        self._first = 0

    def slot(self, index: int, row: Row) -> Array:
        """The place of picture `index`. Safe to call from several threads at once.

        Raises:
            InvalidArgumentError: the picture needs another size of the model's input than the others.
        """
        with self._lock:
            if self._buffer is None:
                self._buffer = np.empty((self._count, *row.shape), row.dtype)
                self._first = index
            if self._buffer.shape[1:] != row.shape:
                raise InvalidArgumentError(
                    f"needs an input of shape {list(row.shape)} and picture {self._first} one of "
                    f"{list(self._buffer.shape[1:])}, which cannot be one batch: send them in requests of "
                    "their own, or set naiad.input.size"
                )
            return self._buffer[index]  # type: ignore[no-any-return]  # of more than one dim

    def tensor(self) -> Array:
        """The whole batch, once every slot was written."""
        assert self._buffer is not None
        return self._buffer
