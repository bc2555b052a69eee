"""Which faces of a stream need an embedding, and the embeddings of those that do not. Pure.

A stream asks twice a frame: `choose` when its faces have been tracked, `absorb` when the chosen ones have
been embedded. Both go in the order of the frames; `choose` may run ahead, as many frames as are at work at
once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.core.errors import InternalError
from naiad.vision.face_quality import face_quality

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections

    Ids = npt.NDArray[np.int64]
    Box = npt.NDArray[np.float64]

MIN_GAIN = 1.25
"""A face is embedded again once its quality is this many times that of what its track has."""
MIN_OVERLAP = 0.4
"""A track whose box overlaps its last one by less may have gone over to another face, as cuts make it do."""
MAX_ABSENT = 3
"""The same of a track that was missing in more frames than that."""
CUT = 2
"""When so many times more tracks came or went with a frame than stayed, those that stayed are in doubt
too."""
_LEAST_QUALITY = 1e-6
"""Stands for a quality of 0, which nothing could be a multiple of."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The faces of one frame that are to be embedded: `indices` int64 `[k]`, ascending, into its detections.

    `ids` int64 `[n]` are the tracks of all its faces, `live` those that were alive then, `doubtful` those
    whose earlier embedding may be another face's. `space` is what the frame's vectors are of.
    """

    frame_id: int
    ids: Ids
    indices: Ids
    live: frozenset[int] = field(repr=False)
    doubtful: frozenset[int] = frozenset()
    space: str = ""


class TrackEmbedding(NamedTuple):
    """A face's embedding, float32 `[d]`, and the frame that it was made of.

    `space` is what it is of, `also` what further embedders made of that face, None where one made nothing.
    """

    vector: Floats
    frame_id: int
    space: str = ""
    also: tuple[Floats | None, ...] = ()


class _Plan(NamedTuple):
    """What `choose` remembers of a track: the quality of what it has or will have, and where it was last.

    `quality` is 0 where it has nothing that is surely its own; `space` is what that is of.
    """

    quality: float
    box: Box
    seen: int
    space: str


class TrackEmbeddings:
    """The embeddings of one stream's tracks. Not for several threads at once.

    A face is embedded if its track has no embedding, if its quality (`face_quality`) is `min_gain` times as
    high as that of the one the track has, or if the track is in doubt: it was missing, its box jumped, or
    there was a cut. The last one made stays: it is the best one, or the only one that is surely of this
    face. How many tracks are kept is bounded by the tracker.

    Vectors of one space are no use in another: where a frame's differs from its track's, because another
    version of the model has taken over, the face is embedded anew, and never given what the track had.
    """

    def __init__(self, *, min_gain: float = MIN_GAIN) -> None:
        """Begin without any."""
        self._min_gain = min_gain
        self._frame = 0
        self._last: frozenset[int] = frozenset()
        self._plans: dict[int, _Plan] = {}
        self._made: dict[int, TrackEmbedding] = {}
        self._embedded = self._reused = 0

    @property
    def embedded(self) -> int:
        """Embeddings made so far."""
        return self._embedded

    @property
    def reused(self) -> int:
        """Faces so far that had the embedding of an earlier frame."""
        return self._reused

    def __len__(self) -> int:
        return len(self._made)

    def choose(
        self,
        ids: Ids,
        detections: Detections,
        *,
        frame_id: int,
        live: Ids,
        limit: int | None = None,
        space: str = "",
    ) -> Choice:
        """Say which faces of the next frame need an embedding.

        Args:
            ids: the track of each face, as `Tracker.update` gave them.
            detections: the faces.
            frame_id: the frame's, for what is made of it.
            live: `Tracker.ids`, so that what has ended is forgotten.
            limit: at most so many, tracks without any first; the others' turn comes with a later frame.
            space: what the frame's embeddings will be of, however it is told: all that counts is whether it
                is the same.

        Returns:
            The choice, which `absorb` must be called with, whatever becomes of the frame.
        """
        self._frame += 1
        tracks = ids.tolist()
        quality = np.maximum(face_quality(detections), _LEAST_QUALITY).tolist()
        boxes = detections.boxes.astype(np.float64)
        doubtful = self._doubtful(tracks, boxes)
        for track in doubtful:
            self._plans[track] = self._plans[track]._replace(quality=0.0)
        gains = [self._gain(track, quality[face], space) for face, track in enumerate(tracks)]
        wanted = [face for face, gain in enumerate(gains) if gain >= self._min_gain]
        chosen = sorted(sorted(wanted, key=lambda face: -gains[face])[:limit])
        for face in chosen:
            self._plans[tracks[face]] = _Plan(quality[face], boxes[face], self._frame, space)
        for track, box in zip(tracks, boxes, strict=True):
            plan = self._plans.get(track)
            held = (0.0, space) if plan is None else (plan.quality, plan.space)
            self._plans[track] = _Plan(held[0], box, self._frame, held[1])
        alive = frozenset(live.tolist())
        self._plans = {track: plan for track, plan in self._plans.items() if track in alive}
        return Choice(frame_id, ids, np.array(chosen, np.int64), alive, doubtful, space)

    def absorb(
        self,
        choice: Choice,
        vectors: Sequence[Floats | None] | Floats | None,
        also: Sequence[tuple[Floats | None, ...]] = (),
    ) -> list[TrackEmbedding | None]:
        """Take what was made of a frame's chosen faces, and give what each of its faces has now.

        Args:
            choice: the frame's.
            vectors: one, float32 `[d]`, for each of `choice.indices`, None where it failed; None if all did.
            also: what further embedders made, for each of `choice.indices`; none if there are none.

        Returns:
            For each face of the frame the embedding of its track, None where there is none yet.

        Raises:
            InternalError: not as many vectors as faces were chosen.
        """
        vectors = [None] * len(choice.indices) if vectors is None else vectors
        if len(vectors) != len(choice.indices):
            raise InternalError(f"{len(vectors)} vectors came for {len(choice.indices)} chosen faces")
        for track in choice.doubtful:
            self._made.pop(track, None)
        others = also or [()] * len(vectors)
        for track, vector, more in zip(choice.ids[choice.indices].tolist(), vectors, others, strict=True):
            if vector is not None:
                self._made[track] = TrackEmbedding(vector, choice.frame_id, choice.space, more)
            elif track in self._plans:  # its next face is worth another try
                self._plans[track] = self._plans[track]._replace(quality=0.0)
        fresh = sum(vector is not None for vector in vectors)
        found = [self._made_in(choice.space, track) for track in choice.ids.tolist()]
        self._embedded += fresh
        self._reused += sum(embedding is not None for embedding in found) - fresh
        self._made = {track: made for track, made in self._made.items() if track in choice.live}
        return found

    def _made_in(self, space: str, track: int) -> TrackEmbedding | None:
        made = self._made.get(track)
        return made if made is not None and made.space == space else None

    def _doubtful(self, tracks: Sequence[int], boxes: npt.NDArray[np.float64]) -> frozenset[int]:
        """The tracks of a frame that may have gone over to another face."""
        known = [(track, face) for face, track in enumerate(tracks) if track in self._plans]
        before, now = self._last, frozenset(tracks)
        self._last = now
        stayed = before & now
        if stayed and len(before ^ now) > CUT * len(stayed):
            return frozenset(track for track, _ in known)
        if not known:
            return frozenset()
        plans = [self._plans[track] for track, _ in known]
        # All at once: one by one, these few numbers would hold up the event loop where there are many faces.
        overlaps = _overlaps(boxes[[face for _, face in known]], np.array([plan.box for plan in plans]))
        jumped = (overlaps < MIN_OVERLAP).tolist()
        return frozenset(
            track
            for (track, _), plan, has_jumped in zip(known, plans, jumped, strict=True)
            if has_jumped or self._frame - plan.seen > MAX_ABSENT + 1
        )

    def _gain(self, track: int, quality: float, space: str) -> float:
        """By how much a face is better than what its track has in that space; infinite if that is nothing."""
        plan = self._plans.get(track)
        if plan is None or plan.quality == 0 or plan.space != space:
            return np.inf
        return quality / plan.quality


def _overlaps(boxes: Box, others: Box) -> Box:
    """Intersection over union, `[n]`, of boxes `[n, 4]` in pairs; 1 for two without area in one place."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (others[:, 2:] - others[:, :2]).prod(axis=1)
    same = (boxes == others).all(axis=1).astype(np.float64)
    result: Box = np.divide(common, areas - common, out=same, where=areas > common)
    return result
