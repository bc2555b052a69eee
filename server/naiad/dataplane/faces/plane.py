"""The one door to faces: detect, embed, analyze and compare, through the data plane."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from naiad.config.settings.limits import MAX_FACES, MAX_HELD_BYTES
from naiad.core.errors import ResourceExhaustedError
from naiad.dataplane.faces.also import Shared, acquire_also, embed_versions
from naiad.dataplane.faces.analyze import analyze
from naiad.dataplane.faces.answers import DetectAnswer, EmbedAnswer
from naiad.dataplane.faces.compare import compare
from naiad.dataplane.faces.detect import find_in_source
from naiad.dataplane.faces.embed import embed_rows, rows_of_crops, rows_of_landmarks
from naiad.dataplane.faces.images import HeldPixels
from naiad.dataplane.faces.inference import Stage, Workshop
from naiad.dataplane.faces.models import Finder, ModelChoice, acquire
from naiad.dataplane.faces.spaces import acquire_in_space, check_space, given_space
from naiad.dataplane.faces.times import StageTimes
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from naiad.dataplane.decode_pool import DecodePool
    from naiad.dataplane.faces.analyze import Choose
    from naiad.dataplane.faces.answers import AnalyzeAnswer, CompareAnswer
    from naiad.dataplane.faces.compare import ComparedSide
    from naiad.dataplane.faces.images import ImageSource
    from naiad.dataplane.faces.rows import Row
    from naiad.dataplane.inference import DataPlane
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.images import ImageLimits


class FacePlane:
    """Faces of one picture a call. Used on the event loop's thread.

    Every method raises InvalidArgumentError for a picture, a face or an option that is wrong and for a model
    that is none of that kind, ResourceExhaustedError for a picture over a limit or when too many wait, and
    whatever `DataPlane.acquire` and `infer` raise.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        pool: DecodePool,
        limits: ImageLimits,
        *,
        max_faces: int = MAX_FACES,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        """Serve the models of a data plane.

        Args:
            dataplane: where the models are.
            pool: the threads that decode.
            limits: of one picture.
            max_faces: that one call may ask embeddings for.
            max_held_bytes: pixels of all decoded pictures whose faces are being found and embedded.
        """
        self._dataplane = dataplane
        self._workshop = Workshop(dataplane, pool, limits, HeldPixels(max_held_bytes))
        self._max_faces = max_faces

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
        """
        finder = Finder(name, version, score_threshold, max_faces)
        times = StageTimes()
        with acquire(self._dataplane, finder.model, Detector) as handle:
            stage = Stage(self._workshop, handle, deadline_ns, times)
            found, origin = await find_in_source(stage, source, finder)
            times.finish()
            return DetectAnswer(handle.key, found, origin.width, origin.height, times)

    async def embed(
        self,
        name: str,
        version: int | None,
        source: ImageSource,
        landmarks: Sequence[npt.NDArray[np.float32]],
        *,
        normalize: bool | None = None,
        also: Sequence[int] = (),
        deadline_ns: int | None = None,
    ) -> EmbedAnswer:
        """Turn faces of one image into vectors.

        Args:
            name: the embedder; empty if the server has just one.
            version: its version, or None to let the server choose.
            source: the image.
            landmarks: `[5, 2]` a face in pixels of the image; empty: the image is one aligned crop.
            normalize: whether vectors have length 1; None for the config's choice.
            also: further versions that embed the same faces, each once.
            deadline_ns: on the monotonic clock.
        """
        self.check_count(len(landmarks), "faces")
        times = StageTimes()
        plan = partial(
            rows_of_landmarks, source=source, landmarks=landmarks, limits=self._workshop.limits, times=times
        )
        return await self._embed(
            ModelChoice(name, version), plan, times, normalize=normalize, also=also, deadline_ns=deadline_ns
        )

    async def embed_crops(
        self,
        model: ModelChoice,
        crops: Sequence[ImageSource],
        *,
        normalize: bool | None = None,
        also: Sequence[int] = (),
        deadline_ns: int | None = None,
    ) -> EmbedAnswer:
        """Turn several aligned crops, each of the model's input size, into vectors; arguments as `embed`."""
        self.check_count(len(crops), "crops")
        times = StageTimes()
        plan = partial(rows_of_crops, crops=crops, limits=self._workshop.limits, times=times)
        return await self._embed(model, plan, times, normalize=normalize, also=also, deadline_ns=deadline_ns)

    async def embed_found(
        self,
        model: ModelChoice,
        source: ImageSource,
        finder: Finder,
        *,
        normalize: bool | None = None,
        also: Sequence[int] = (),
        deadline_ns: int | None = None,
    ) -> EmbedAnswer:
        """Find the faces of one image and turn each into a vector; arguments as `analyze`."""
        answer = await self.analyze(
            source, finder, model, normalize=normalize, also=also, deadline_ns=deadline_ns
        )
        times = answer.embedder_times or StageTimes()
        times.decode_ns, answer.times.decode_ns = answer.times.decode_ns, 0
        whole_ns = answer.times.total_ns
        answer.times.total_ns = whole_ns - times.total_ns
        times.total_ns = whole_ns
        found = DetectAnswer(
            answer.detector,
            answer.detections.take(answer.rows),
            answer.image_width,
            answer.image_height,
            answer.times,
        )
        others = tuple(other.at(answer.rows) for other in answer.also)
        return EmbedAnswer(answer.embedder, answer.embeddings, times, found, answer.embedding_space, others)

    async def analyze(
        self,
        source: ImageSource,
        finder: Finder,
        embedder: ModelChoice,
        *,
        normalize: bool | None = None,
        choose: Choose | None = None,
        also: Sequence[int] = (),
        on_embedders: Callable[[Sequence[ModelHandle]], None] | None = None,
        deadline_ns: int | None = None,
    ) -> AnalyzeAnswer:
        """Find the faces of one image and embed them, or some of them.

        Args:
            source: the image.
            finder: the detector and its options.
            embedder: who turns faces into vectors.
            normalize: whether vectors have length 1; None for the config's choice.
            choose: given the faces, the indices of those to embed, or an awaitable of them; called once, on
                the event loop's thread, after the detection. None embeds all.
            also: further versions of the embedder that embed the same faces, each once.
            on_embedders: told before `choose` is asked who will embed: the version that answers, then the
                others.
            deadline_ns: on the monotonic clock.

        Raises:
            InvalidArgumentError: also if the detector gives no five landmarks and the embedder aligns.
        """
        times = StageTimes()
        with ExitStack() as handles:
            detector_handle = handles.enter_context(acquire(self._dataplane, finder.model, Detector))
            embedder_handle = handles.enter_context(acquire(self._dataplane, embedder, Embedder))
            others = acquire_also(handles, self._dataplane, embedder_handle, also)
            if on_embedders is not None:
                on_embedders((embedder_handle, *others))
            stage = Stage(self._workshop, detector_handle, deadline_ns, times)
            return await analyze(
                stage,
                embedder_handle,
                source,
                finder,
                normalize=normalize,
                choose=choose,
                others=others,
            )

    async def compare(
        self,
        first: ComparedSide,
        second: ComparedSide,
        finder: Finder,
        embedder: ModelChoice,
        *,
        require_space: bool = False,
        deadline_ns: int | None = None,
    ) -> CompareAnswer:
        """Say how alike two faces are.

        Args:
            first: one face.
            second: the other.
            finder: who finds a face in a picture that comes without landmarks; not asked for if none does.
            embedder: who turns faces into vectors, or has made the given ones. Where no version is named and
                a given vector tells its space, the version that makes that space, if one is ready.
            require_space: refuse given vectors that do not tell their embedding space.
            deadline_ns: on the monotonic clock.

        Raises:
            InvalidArgumentError: also if a side has no face, which it names, or a vector does not suit, or is
                of another embedding space.
        """
        times = StageTimes()
        sides = first, second
        space = given_space(sides, is_required=require_space)
        with ExitStack() as handles:
            embedder_handle = acquire_in_space(handles, self._dataplane, embedder, space)
            check_space(self._dataplane, sides, embedder_handle, is_required=require_space)
            stage, detector = Stage(self._workshop, embedder_handle, deadline_ns, times), None
            if first.is_searched or second.is_searched:
                detector_handle = handles.enter_context(acquire(self._dataplane, finder.model, Detector))
                detector = stage._replace(handle=detector_handle, times=StageTimes())
            return await compare(detector, stage, sides, finder)

    def acquire(self, model: ModelChoice, kind: type[Detector | Embedder]) -> ModelHandle:
        """A handle on the version that would answer now; what it raises, `detect` or `embed` would raise."""
        return acquire(self._dataplane, model, kind)

    def check_also(self, handle: ModelHandle, versions: Sequence[int]) -> None:
        """See that further versions of the model on `handle` may be asked for, and are ready.

        Raises:
            NaiadError: what `embed` would raise with them.
        """
        with ExitStack() as handles:
            acquire_also(handles, self._dataplane, handle, versions)

    @property
    def pool(self) -> DecodePool:
        """The threads that work on pictures and faces."""
        return self._workshop.pool

    def check_count(self, count: int, field: str) -> None:
        """See that one call does not ask for too much; cheaper before anything is made of it.

        Raises:
            ResourceExhaustedError: `count` of what `field` names is over the limit.
        """
        if count > self._max_faces:
            raise ResourceExhaustedError(
                f"{count} {field} are to be embedded in one call, the limit is {self._max_faces} "
                "(--max-embed-faces)"
            )

    async def _embed(
        self,
        model: ModelChoice,
        plan: Callable[..., list[Row]],
        times: StageTimes,
        *,
        normalize: bool | None,
        also: Sequence[int],
        deadline_ns: int | None,
    ) -> EmbedAnswer:
        """One row of `plan(embedder)` a vector; it also takes what several embedders share, as `shared`."""
        with ExitStack() as handles:
            handle = handles.enter_context(acquire(self._dataplane, model, Embedder))
            others = acquire_also(handles, self._dataplane, handle, also)
            stage = Stage(self._workshop, handle, deadline_ns, times)
            if not others:
                vectors = await embed_rows(stage, plan, normalize=normalize)
                times.finish()
                return EmbedAnswer(handle.key, vectors, times, embedding_space=handle.embedding_space)
            shared = partial(plan, shared=Shared())
            made, *rest = await embed_versions(stage, others, lambda: shared, normalize=normalize)
            return EmbedAnswer(
                handle.key,
                made.vectors,
                times,
                embedding_space=handle.embedding_space,
                also=tuple(each.other(np.arange(len(each.vectors))) for each in rest),
            )
