"""The faces of pictures: prepared, run, and read by the model's head."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from naiad.dataplane.faces.images import decode_for
from naiad.dataplane.faces.inference import infer, prepare
from naiad.dataplane.faces.one_run import OneRun, runs_whole
from naiad.dataplane.faces.rows import Row
from naiad.vision.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import InferResponse
    from naiad.dataplane.faces.images import ImageSource, Picture
    from naiad.dataplane.faces.inference import Prepared, Stage
    from naiad.dataplane.faces.models import Finder
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.detections import Detections
    from naiad.vision.transform import Origin


async def find_in_source(stage: Stage, source: ImageSource, finder: Finder) -> tuple[Detections, Origin]:
    """The faces of one picture of which nothing else is wanted, and that picture's upright original.

    No more of a file is decoded than the detector needs.
    """
    if runs_whole(stage, source):
        return await OneRun(stage, source, finder).run()
    prepared, origin = await stage.workshop.pool.run(partial(_decode_and_prepare, stage, source))
    [detections] = await _find(stage, prepared, finder)
    return detections, origin


async def find(stage: Stage, pictures: Sequence[Picture], finder: Finder) -> list[Detections]:
    """The faces of decoded pictures, in as few runs as the model allows."""
    prepared = await stage.workshop.pool.run(partial(_prepare, stage, pictures))
    return await _find(stage, prepared, finder)


async def _find(stage: Stage, prepared: Sequence[Prepared], finder: Finder) -> list[Detections]:
    responses = await infer(stage, prepared)
    return await stage.workshop.pool.run(partial(_read, stage, prepared, responses, finder))


def _detector(handle: ModelHandle) -> Detector:
    assert isinstance(handle.vision, Detector)
    return handle.vision


def _decode_and_prepare(stage: Stage, source: ImageSource) -> tuple[list[Prepared], Origin]:
    start_ns = time.monotonic_ns()
    picture = decode_for(source, stage.workshop.limits, _detector(stage.handle).preprocessor)
    stage.times.decode_ns += time.monotonic_ns() - start_ns
    return _prepare(stage, [picture]), picture.origin


def _prepare(stage: Stage, pictures: Sequence[Picture]) -> list[Prepared]:
    preprocessor = _detector(stage.handle).preprocessor
    return prepare(stage, [Row(preprocessor, picture) for picture in pictures])


def _read(
    stage: Stage, prepared: Sequence[Prepared], responses: Sequence[InferResponse], finder: Finder
) -> list[Detections]:
    start_ns = time.monotonic_ns()
    head = _detector(stage.handle).head
    found: list[Detections] = []
    for each, response in zip(prepared, responses, strict=True):
        found += head.decode(
            response.outputs,
            [row.transform for row in each.batch.rows],
            score_threshold=finder.score_threshold,
            max_faces=finder.max_faces,
        )
    stage.times.postprocess_ns += time.monotonic_ns() - start_ns
    return found
