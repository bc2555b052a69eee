"""A picture's whole way to its faces on one thread: decoded, written, run and read where the batch is formed.

Where a version has an instance for each CPU, handing a picture from a decode thread to an instance and its
outputs back to a decode thread only costs: wake-ups, cold caches, and a frame that waits three times.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from naiad.core.errors import InternalError, NaiadError
from naiad.core.tensors import placeholder
from naiad.dataplane.faces.images import EncodedImage, RawPixels, decode_for
from naiad.dataplane.faces.inference import may_defer, request_of
from naiad.dataplane.faces.rows import MAX_DEFERRED_BYTES, Row
from naiad.vision.detector import Detector
from naiad.vision.images import size_of

if TYPE_CHECKING:
    from naiad.core.tensors import Array, Tensors
    from naiad.dataplane.faces.images import ImageSource
    from naiad.dataplane.faces.inference import Stage
    from naiad.dataplane.faces.models import Finder
    from naiad.vision.detections import Detections
    from naiad.vision.transform import Origin

MAX_FILE_BYTES = 2**20
"""A larger file is decoded in the pool: what it holds up there is no model."""

_CHANNELS = 3


def runs_whole(stage: Stage, source: ImageSource) -> bool:
    """Whether a picture may go the whole way on an instance's thread: a small one, and one for each CPU."""
    handle = stage.handle
    if not may_defer(handle) or handle.instance_count < stage.workshop.pool.threads:
        return False
    if not isinstance(handle.vision, Detector) or handle.vision.preprocessor.fixed_shape is None:
        return False
    if isinstance(source, RawPixels):
        return len(source.data) <= MAX_DEFERRED_BYTES
    if not isinstance(source, EncodedImage) or len(source.data) > MAX_FILE_BYTES:
        return False
    try:
        width, height = size_of(source.data)
    except NaiadError:
        return False  # what is wrong is told by who decodes it
    return width * height * _CHANNELS <= MAX_DEFERRED_BYTES


class OneRun:
    """One picture for a detector: source and sink of its request.

    A picture that is none fails in the sink, for its own request: the source gives black instead, or its
    batch-mates would have to run again.
    """

    def __init__(self, stage: Stage, source: ImageSource, finder: Finder) -> None:
        assert isinstance(stage.handle.vision, Detector)
        self._detector = stage.handle.vision
        self._stage = stage
        self._source = source
        self._finder = finder
        self._row: Row | None = None
        self._origin: Origin | None = None
        self._found: Detections | None = None
        self._error: NaiadError | None = None
        self._batched = stage.handle.config.max_batch_size > 0

    async def run(self) -> tuple[Detections, Origin]:
        """The faces and the upright original.

        Raises:
            NaiadError: the picture is none, or whatever the model raises.
        """
        stage = self._stage
        shape = self._detector.preprocessor.fixed_shape
        assert shape is not None, "it is known before the picture is"
        tensor = placeholder((1, *shape) if self._batched else shape, self._detector.preprocessor.dtype)
        request = request_of(stage, tensor, 1, self, self)
        response = await stage.workshop.dataplane.infer(stage.handle, request)
        times = stage.times
        times.add_response(response, times.decode_ns + times.preprocess_ns + times.postprocess_ns)
        times.is_one_run = True
        if self._found is None or self._origin is None:
            raise InternalError("a picture's outputs were not read")
        return self._found, self._origin

    def read_into(self, target: Array) -> None:
        """Decode the picture and write it to its row."""
        times, start_ns = self._stage.times, time.monotonic_ns()
        preprocessor = self._detector.preprocessor
        try:
            picture = decode_for(self._source, self._stage.workshop.limits, preprocessor)
            row = Row(preprocessor, picture)
        except NaiadError as error:
            self._error = error
            target[...] = 0
            return
        decoded_ns = time.monotonic_ns()
        row.write(target[0] if self._batched else target)
        self._row, self._origin = row, picture.origin
        times.decode_ns = decoded_ns - start_ns
        times.preprocess_ns = time.monotonic_ns() - decoded_ns

    def write(self, outputs: Tensors) -> None:
        """Read the faces off the model's outputs.

        Raises:
            NaiadError: the picture was none, or the head refuses the outputs.
        """
        if self._error is not None:
            raise self._error
        assert self._row is not None, "outputs come after inputs"
        start_ns = time.monotonic_ns()
        finder = self._finder
        [self._found] = self._detector.head.decode(
            outputs,
            [self._row.transform],
            score_threshold=finder.score_threshold,
            max_faces=finder.max_faces,
        )
        self._stage.times.postprocess_ns = time.monotonic_ns() - start_ns
