"""The faces of one picture, and the vectors of those that are wanted: decoded once, two models."""

from __future__ import annotations

import inspect
import time
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from naiad.core.errors import InternalError
from naiad.dataplane.faces.also import Shared, embed_versions, nothing_of
from naiad.dataplane.faces.answers import AnalyzeAnswer
from naiad.dataplane.faces.detect import find
from naiad.dataplane.faces.embed import FoundFaces, check_landmarks, embed_rows
from naiad.dataplane.faces.images import decode
from naiad.dataplane.faces.times import StageTimes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import numpy.typing as npt

    from naiad.dataplane.faces.images import ImageSource, Picture
    from naiad.dataplane.faces.inference import Stage
    from naiad.dataplane.faces.models import Finder
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.detections import Detections
    from naiad.vision.images import ImageLimits

    Indices: TypeAlias = Sequence[int] | npt.NDArray[np.integer]
    Choose: TypeAlias = Callable[[Detections], Indices | Awaitable[Indices]]


async def analyze(
    detector: Stage,
    embedder: ModelHandle,
    source: ImageSource,
    finder: Finder,
    *,
    normalize: bool | None,
    choose: Choose | None,
    others: Sequence[ModelHandle] = (),
) -> AnalyzeAnswer:
    """Find faces and embed them; see `FacePlane.analyze`. `others` embed the same faces."""
    workshop, times = detector.workshop, detector.times
    picture = await workshop.pool.run(partial(_decode, source, workshop.limits, times))
    with workshop.held.hold([picture]):
        return await _analyze(
            detector, embedder, picture, finder, normalize=normalize, choose=choose, others=others
        )


async def _analyze(
    detector: Stage,
    embedder: ModelHandle,
    picture: Picture,
    finder: Finder,
    *,
    normalize: bool | None,
    choose: Choose | None,
    others: Sequence[ModelHandle],
) -> AnalyzeAnswer:
    times = detector.times
    [found] = await find(detector, [picture], finder)
    for handle in (embedder, *others):
        check_landmarks(handle, detector.handle, found)
    chosen = await _chosen(choose, found)
    plan = FoundFaces(picture, found, chosen)
    embedder_times = StageTimes()
    embeddings = np.empty((0, 0), np.float32)
    also = tuple(map(nothing_of, others))
    stage = detector._replace(handle=embedder, times=embedder_times)
    if others and len(chosen):
        make_plan = partial(FoundFaces, picture, found, chosen, Shared())
        made, *rest = await embed_versions(stage, others, make_plan, normalize=normalize)
        plan, embeddings = made.plan, made.vectors
        also = tuple(each.other(each.plan.chosen) for each in rest)
    elif len(chosen):
        embeddings = await embed_rows(stage, plan, normalize=normalize)
        embedder_times.finish()
    times.finish()
    return AnalyzeAnswer(
        detector=detector.handle.key,
        embedder=embedder.key,
        detections=found,
        image_width=picture.origin.width,
        image_height=picture.origin.height,
        rows=plan.chosen,
        embeddings=embeddings,
        times=times,
        embedder_times=embedder_times if len(plan.chosen) else None,
        embedding_space=embedder.embedding_space,
        also=also,
    )


def _decode(source: ImageSource, limits: ImageLimits, times: StageTimes) -> Picture:
    start_ns = time.monotonic_ns()
    picture = decode(source, limits)
    times.decode_ns += time.monotonic_ns() - start_ns
    return picture


async def _chosen(choose: Choose | None, found: Detections) -> npt.NDArray[np.int64]:
    """Which faces are to be embedded."""
    if choose is None:
        return np.arange(len(found))
    wanted = choose(found)
    if inspect.isawaitable(wanted):
        wanted = await wanted
    chosen = np.asarray(wanted, np.int64).reshape(-1)
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(found)):
        raise InternalError(f"faces {chosen.tolist()} were chosen to be embedded, {len(found)} were found")
    return chosen
