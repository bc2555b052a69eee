"""The same faces through further versions of one embedder: for who moves from one of them to the next."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.dataplane.faces.answers import OtherVectors
from naiad.dataplane.faces.embed import plan_and_prepare, run_prepared
from naiad.dataplane.faces.images import decode, named
from naiad.dataplane.faces.inference import together
from naiad.dataplane.faces.models import ModelChoice, acquire
from naiad.dataplane.faces.times import StageTimes
from naiad.vision.embedder import Crop, Embedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack

    import numpy.typing as npt

    from naiad.dataplane.faces.images import ImageSource, Picture
    from naiad.dataplane.faces.inference import Prepared, Stage
    from naiad.dataplane.faces.rows import Row
    from naiad.dataplane.inference import DataPlane
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.arrays import Floats
    from naiad.vision.images import ImageLimits

MAX_ALSO_VERSIONS = 4
"""Further versions that one request may ask for: each is a run of a model for each face."""


class Plan(Protocol):
    """Makes the rows of one embedder, on a thread of the pool."""

    def __call__(self, embedder: Embedder) -> list[Row]:
        """The rows."""
        ...


PlanT = TypeVar("PlanT", bound=Plan)


class Embedded(NamedTuple, Generic[PlanT]):
    """What one version made: float32 `[n, d]` of the rows that `plan` made."""

    handle: ModelHandle
    plan: PlanT
    vectors: Floats
    times: StageTimes

    def other(self, rows: npt.NDArray[np.int64]) -> OtherVectors:
        """The same as a part of an answer, the vectors being those of the faces `rows`, int64 `[n]`."""
        times = self.times if len(self.vectors) else None
        return OtherVectors(self.handle.key, self.handle.embedding_space, rows, self.vectors, times)


class Shared:
    """What several embedders need of the same faces: a picture decoded once, each crop of a size warped once.

    Used by one thread after the other.
    """

    def __init__(self) -> None:
        self._pictures: dict[int, Picture] = {}
        self._crops: dict[tuple[int, int], Crop] = {}

    def decode(self, source: ImageSource, limits: ImageLimits) -> Picture:
        """As `images.decode`; `source` must live as long as this."""
        if id(source) not in self._pictures:
            self._pictures[id(source)] = decode(source, limits)
        return self._pictures[id(source)]

    def cut(self, face: int, crop: Crop) -> Crop:
        """A face's crop with its pixels cut out; what is no warp is left as it is."""
        if crop.matrix is None:
            return crop
        key = face, crop.size
        if key not in self._crops:
            self._crops[key] = Crop(crop.pixels())
        return self._crops[key]


def acquire_also(
    handles: ExitStack, dataplane: DataPlane, handle: ModelHandle, versions: Sequence[int]
) -> list[ModelHandle]:
    """Handles on further versions of the model that `handle` is on, which `handles` gives back.

    Raises:
        ResourceExhaustedError: too many are asked for.
        InvalidArgumentError: one is asked for twice, or is no embedder.
        NotFoundError: there is no such version.
        UnavailableError: it is not ready.
    """
    if len(versions) > MAX_ALSO_VERSIONS:
        raise ResourceExhaustedError(
            f"also_versions names {len(versions)} versions, the limit is {MAX_ALSO_VERSIONS}"
        )
    twice = sorted({version for version in versions if versions.count(version) > 1})
    if twice:
        raise InvalidArgumentError(f"also_versions names version {twice[0]} more than once")
    name = handle.key.name
    return [
        handles.enter_context(acquire(dataplane, ModelChoice(name, version), Embedder))
        for version in versions
    ]


def nothing_of(handle: ModelHandle) -> OtherVectors:
    """A version's part of an answer that has no faces."""
    rows, vectors = np.empty(0, np.int64), np.empty((0, 0), np.float32)
    return OtherVectors(handle.key, handle.embedding_space, rows, vectors, None)


async def embed_versions(
    stage: Stage,
    others: Sequence[ModelHandle],
    make_plan: Callable[[], PlanT],
    *,
    normalize: bool | None,
) -> list[Embedded[PlanT]]:
    """What the version of `stage` makes, then what each of the others does; all run at once.

    Args:
        stage: the version that answers.
        others: further ones; the one that answers is not run twice.
        make_plan: a plan for each of them, all of the same faces.
        normalize: whether vectors have length 1; None for the choice of each version's config.

    Raises:
        NaiadError: the first error of any of them.
    """
    unlike = [other for other in others if other.key != stage.handle.key]
    stages = [stage, *(stage._replace(handle=other, times=StageTimes()) for other in unlike)]
    plans = [make_plan() for _ in stages]
    prepared = await stage.workshop.pool.run(partial(_prepare_all, stages, plans))
    runs = (_run(each, rows, normalize) for each, rows in zip(stages, prepared, strict=True))
    made = {
        each.handle.key: Embedded(each.handle, plan, vectors, each.times)
        for each, plan, vectors in zip(stages, plans, await together(runs), strict=True)
    }
    return [made[each.key] for each in (stage.handle, *others)]


def _prepare_all(stages: Sequence[Stage], plans: Sequence[Plan]) -> list[list[Prepared]]:
    def prepare_each() -> Iterator[list[Prepared]]:
        for index, (stage, plan) in enumerate(zip(stages, plans, strict=True)):
            if not index:
                yield plan_and_prepare(stage, plan)
                continue
            with named(f"also_versions, version {stage.handle.key.version}"):
                yield plan_and_prepare(stage, plan)

    return list(prepare_each())


async def _run(stage: Stage, prepared: list[Prepared], normalize: bool | None) -> Floats:
    vectors = await run_prepared(stage, prepared, normalize=normalize)
    stage.times.finish()
    return vectors
