"""Faces from images: decode, pre-process, infer, post-process, and where the time of each went."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from naiad.core.errors import InvalidArgumentError, NotFoundError
from naiad.core.tensors import InferRequest
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder
from naiad.vision.images import decode_image, decode_reduced
from naiad.vision.raw_frames import raw_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from naiad.core.tensors import Array, InferResponse, ModelKey
    from naiad.dataplane.decode_pool import DecodePool
    from naiad.dataplane.inference import DataPlane
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.arrays import Floats, Pixels
    from naiad.vision.detections import Detections
    from naiad.vision.images import ImageLimits
    from naiad.vision.preprocess import Preprocessor
    from naiad.vision.raw_frames import PixelFormat
    from naiad.vision.transform import Origin, Transform

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A whole JPEG, PNG, WebP or BMP file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class RawPixels:
    """Uncompressed pixels; `stride` is the bytes from row to row, 0 for rows without gaps."""

    data: bytes
    format: PixelFormat
    width: int
    height: int
    stride: int


ImageSource = EncodedImage | RawPixels


@dataclass(slots=True)
class StageTimes:
    """Nanoseconds a request spent in each stage; the largest batch it ran in."""

    started_ns: int = field(default_factory=time.monotonic_ns)
    decode_ns: int = 0
    preprocess_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    postprocess_ns: int = 0
    total_ns: int = 0
    batch_size: int = 0

    def add_response(self, response: InferResponse) -> None:
        """Count one inference; of several at once the slowest counts."""
        times = response.times
        self.queue_ns = max(self.queue_ns, times.queue_ns)
        self.infer_ns = max(self.infer_ns, times.compute_input_ns + times.infer_ns + times.compute_output_ns)
        self.batch_size = max(self.batch_size, response.batch_size)

    def finish(self) -> None:
        """Set the total."""
        self.total_ns = time.monotonic_ns() - self.started_ns


@dataclass(frozen=True, slots=True)
class DetectAnswer:
    """The faces of one image, in pixels of the upright original."""

    model: ModelKey
    detections: Detections
    image_width: int
    image_height: int
    times: StageTimes


@dataclass(frozen=True, slots=True)
class EmbedAnswer:
    """One vector a face, float32 `[n, d]`, in the order that they were asked for."""

    model: ModelKey
    embeddings: Floats
    times: StageTimes


class FacePlane:
    """Detects and embeds through the data plane. Used on the event loop's thread."""

    def __init__(self, dataplane: DataPlane, pool: DecodePool, limits: ImageLimits) -> None:
        self._dataplane = dataplane
        self._pool = pool
        self._limits = limits

    async def detect(
        self,
        name: str,
        version: int | None,
        source: ImageSource,
        *,
        score_threshold: float | None = None,
        max_faces: int | None = None,
        deadline_ns: int | None = None,
    ) -> DetectAnswer:
        """Find the faces of one image.

        Args:
            name: the detector; empty if the server has just one.
            version: its version, or None to let the server choose.
            source: the image.
            score_threshold: 0..1 instead of the config's.
            max_faces: at most this many, below the config's limit.
            deadline_ns: on the monotonic clock.

        Raises:
            InvalidArgumentError: the image or an option is wrong, or the model is no detector.
            ResourceExhaustedError: the image is over a limit, or too many wait.
            NaiadError: whatever `DataPlane.acquire` and `infer` raise.
        """
        times = StageTimes()
        with self._acquire(name, version, Detector) as handle:
            detector = handle.vision
            assert isinstance(detector, Detector)
            prepare = partial(self._prepare_detect, detector, handle, source, times)
            tensor, transform = await self._pool.run(prepare)
            response = await self._infer(handle, tensor, deadline_ns)
            times.add_response(response)
            decode = partial(
                detector.head.decode,
                response.outputs,
                [transform],
                score_threshold=score_threshold,
                max_faces=max_faces,
            )
            [detections] = await self._pool.run(partial(_post_process, decode, times))
            times.finish()
            return DetectAnswer(handle.key, detections, transform.image_width, transform.image_height, times)

    async def embed(
        self,
        name: str,
        version: int | None,
        source: ImageSource,
        landmarks: Sequence[npt.NDArray[np.float32]],
        *,
        deadline_ns: int | None = None,
    ) -> EmbedAnswer:
        """Turn faces of one image into vectors.

        Args:
            name: the embedder; empty if the server has just one.
            version: its version, or None to let the server choose.
            source: the image.
            landmarks: `[5, 2]` a face in pixels of the image; empty: the image is one aligned crop.
            deadline_ns: on the monotonic clock.

        Raises:
            NaiadError: as `detect`.
        """
        times = StageTimes()
        with self._acquire(name, version, Embedder) as handle:
            embedder = handle.vision
            assert isinstance(embedder, Embedder)
            prepare = partial(self._prepare_embed, embedder, handle, source, landmarks, times)
            tensors = await self._pool.run(prepare)
            responses = await self._infer_all(handle, tensors, deadline_ns)
            for response in responses:
                times.add_response(response)
            vectors = await self._pool.run(
                partial(_post_process, partial(_vectors, embedder, responses), times)
            )
            times.finish()
            return EmbedAnswer(handle.key, vectors, times)

    def check(self, name: str, version: int | None, kind: type[Detector | Embedder]) -> None:
        """Raise what `detect` or `embed` would raise for that model; a stream asks before its first frame."""
        self._acquire(name, version, kind).release()

    def _acquire(self, name: str, version: int | None, kind: type[Detector | Embedder]) -> ModelHandle:
        handle = self._dataplane.acquire(name or self._only(kind), version)
        if not isinstance(handle.vision, kind):
            handle.release()
            task = "detect" if kind is Detector else "embed"
            raise InvalidArgumentError(
                f"model '{name}' has no naiad.task '{task}' in its config, so it takes tensors and no images"
            )
        return handle

    def _only(self, kind: type[Detector | Embedder]) -> str:
        """The name of the one model of that kind."""
        manager = self._dataplane.manager
        names = [
            name
            for name in manager.model_names()
            if any(isinstance(serving.vision, kind) for serving in manager.ready_versions(name))
        ]
        if len(names) == 1:
            return names[0]
        word = "detector" if kind is Detector else "embedder"
        if not names:
            raise NotFoundError(f"no {word} is ready on this server")
        raise InvalidArgumentError(
            f"model_name is empty and there are {len(names)} {word}s: {', '.join(names)}"
        )

    def _pixels(self, source: ImageSource) -> Pixels:
        if isinstance(source, EncodedImage):
            return decode_image(source.data, self._limits)
        return raw_image(source.data, source.format, source.width, source.height, source.stride, self._limits)

    def _pixels_for(self, preprocessor: Preprocessor, source: ImageSource) -> tuple[Pixels, Origin | None]:
        """As few pixels as that input needs, where a file can be decoded so."""
        if isinstance(source, EncodedImage):
            return decode_reduced(source.data, self._limits, preprocessor.reduction)
        return self._pixels(source), None

    def _prepare_detect(
        self, detector: Detector, handle: ModelHandle, source: ImageSource, times: StageTimes
    ) -> tuple[Array, Transform]:
        start_ns = time.monotonic_ns()
        image, origin = self._pixels_for(detector.preprocessor, source)
        decoded_ns = time.monotonic_ns()
        tensor, transform = detector.preprocessor(image, origin)
        times.decode_ns = decoded_ns - start_ns
        times.preprocess_ns = time.monotonic_ns() - decoded_ns
        return (tensor[np.newaxis] if handle.config.max_batch_size else tensor), transform

    def _prepare_embed(
        self,
        embedder: Embedder,
        handle: ModelHandle,
        source: ImageSource,
        landmarks: Sequence[npt.NDArray[np.float32]],
        times: StageTimes,
    ) -> list[Array]:
        """One tensor a request: as many faces as a batch holds, or one where the model has no batches."""
        start_ns = time.monotonic_ns()
        image = self._pixels(source)
        decoded_ns = time.monotonic_ns()
        crops = [embedder.crop(image, points) for points in landmarks] or [embedder.crop(image, None)]
        tensors = _batches(embedder, crops, handle.config.max_batch_size)
        times.decode_ns = decoded_ns - start_ns
        times.preprocess_ns = time.monotonic_ns() - decoded_ns
        return tensors

    async def _infer(self, handle: ModelHandle, tensor: Array, deadline_ns: int | None) -> InferResponse:
        assert handle.vision is not None
        config = handle.config
        assert config.vision is not None
        return await self._dataplane.infer(
            handle,
            InferRequest(
                model_name=config.name,
                version=handle.key.version,
                inputs={config.vision.input.tensor: tensor},
                outputs=tuple(handle.vision.output_names),
                batch_size=len(tensor) if config.max_batch_size else 1,
                deadline_ns=deadline_ns,
            ),
        )

    async def _infer_all(
        self, handle: ModelHandle, tensors: Sequence[Array], deadline_ns: int | None
    ) -> list[InferResponse]:
        tasks = [asyncio.create_task(self._infer(handle, tensor, deadline_ns)) for tensor in tensors]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # Not a TaskGroup: its ExceptionGroup would hide the error that the caller must be told.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _batches(embedder: Embedder, crops: Sequence[Pixels], max_batch_size: int) -> list[Array]:
    preprocessor = embedder.preprocessor
    if not max_batch_size:
        return [preprocessor(crop)[0] for crop in crops]
    batches: list[Array] = []
    for start in range(0, len(crops), max_batch_size):
        chunk = crops[start : start + max_batch_size]
        batch: Array = np.empty((len(chunk), *preprocessor.shape_for(chunk[0])), preprocessor.dtype)
        for crop, slot in zip(chunk, batch, strict=True):
            preprocessor.write(crop, slot)
        batches.append(batch)
    return batches


def _post_process(work: Callable[[], Result], times: StageTimes) -> Result:
    start_ns = time.monotonic_ns()
    result = work()
    times.postprocess_ns = time.monotonic_ns() - start_ns
    return result


def _vectors(embedder: Embedder, responses: Sequence[InferResponse]) -> Floats:
    return np.concatenate([embedder.vectors(response.outputs) for response in responses])
