"""Frames at work through one tracker, and through one memory of embeddings, in the order of the frames."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from naiad.core.errors import CancelledError
from naiad.dataplane.frames.turns import Turns
from naiad.vision.assignment import is_solver_loaded, load_solver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.dataplane.decode_pool import DecodePool
    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections
    from naiad.vision.track_embeddings import Choice, TrackEmbedding, TrackEmbeddings
    from naiad.vision.tracks import Ids, Tracker

    Found = list[TrackEmbedding | None]

Result = TypeVar("Result")

MANY = 200
"""Faces and tracks together from which on they are paired on a thread: it takes more than a millisecond."""


class _Made:
    """What has become of one frame's chosen faces; `found` waits for what all of its faces have."""

    __slots__ = ("also", "choice", "found", "is_ready", "vectors")

    def __init__(self) -> None:
        self.also: Sequence[tuple[Floats | None, ...]] = ()
        self.choice: Choice | None = None
        self.vectors: Sequence[Floats | None] | Floats | None = None
        self.found: asyncio.Future[Found] | None = None
        self.is_ready = False


class TrackLine:
    """Detection and embedding run for several frames at once; tracks, and what they have, in frame order.

    A frame passes three places: it is entered when it is begun with, tracked after its detection, and where
    embeddings are kept for tracks its vectors are absorbed after those of the frames before. It leaves in the
    end, also if it failed on the way. Used on the event loop's thread.
    """

    def __init__(self, tracker: Tracker, pool: DecodePool, embeddings: TrackEmbeddings | None = None) -> None:
        """Begin with the first frame.

        Args:
            tracker: the stream's.
            pool: where many faces are tracked, which would hold up the event loop, and the process's first.
            embeddings: what tracks have, where that is kept.
        """
        self.tracker = tracker
        self.embeddings = embeddings
        self._pool = pool
        self._turns = Turns()
        self._aside: tuple[int, asyncio.Task[object]] | None = None
        self._made: OrderedDict[int, _Made] = OrderedDict()

    def enter(self, number: int) -> None:
        """A frame is begun with; `number` counts the stream's frames, those that were dropped among them."""
        self._turns.enter(number)
        if self.embeddings is not None:
            self._made[number] = _Made()

    async def track(self, number: int, detections: Detections) -> Ids:
        """The track of each face, once the frames before have been tracked.

        Raises:
            ResourceExhaustedError: there are many faces, and too much waits for a thread.
        """
        return await self._pass(number, detections, lambda ids: ids)

    async def choose(self, number: int, frame_id: int, detections: Detections, space: str = "") -> Choice:
        """The same, and which of the faces are to be embedded, in what space."""
        return await self._pass(
            number, detections, partial(self._choose, number, frame_id, detections, space)
        )

    async def absorb(
        self,
        number: int,
        vectors: Sequence[Floats | None] | Floats,
        also: Sequence[tuple[Floats | None, ...]] = (),
    ) -> Found:
        """What each face of the frame has, once the frames before have theirs.

        `vectors` are those of the chosen faces, None of one that could not be embedded; `also` what further
        embedders made of them.
        """
        made = self._made[number]
        made.vectors = vectors
        made.also = also
        made.is_ready = True
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        made.found = found
        self._advance()
        return await found

    def leave(self, number: int) -> None:
        """Nothing works on the frame any more."""
        if self._aside is None or self._aside[0] != number:
            self._turns.leave(number)
        made = self._made.get(number)
        if made is not None:  # it failed, or its caller has left
            made.is_ready = True
            self._advance()

    async def _pass(self, number: int, detections: Detections, then: Callable[[Ids], Result]) -> Result:
        """Track the faces and do something with their tracks before the next frame has its turn."""
        await self._turns.wait(number)
        if not is_solver_loaded() or len(self.tracker) + len(detections) >= MANY:
            task = asyncio.create_task(self._pass_aside(number, detections, then), name="stream tracks")
            self._aside = number, task
            # The thread goes on if the frame's time is up: nobody else may touch the tracker meanwhile.
            return await asyncio.shield(task)
        try:
            return then(self.tracker.update(detections, frame=number))
        finally:
            self._turns.leave(number)

    async def _pass_aside(self, number: int, detections: Detections, then: Callable[[Ids], Result]) -> Result:
        try:
            return then(await self._pool.run(partial(self._update, detections, number)))
        finally:
            self._aside = None
            self._turns.leave(number)

    def _update(self, detections: Detections, number: int) -> Ids:
        load_solver()
        return self.tracker.update(detections, frame=number)

    def _choose(self, number: int, frame_id: int, detections: Detections, space: str, ids: Ids) -> Choice:
        assert self.embeddings is not None
        made = self._made.get(number)
        if made is None:  # it has ended meanwhile, and nothing would come of what is chosen
            raise CancelledError(f"frame {frame_id} ended while its faces were tracked")
        made.choice = self.embeddings.choose(
            ids, detections, frame_id=frame_id, live=self.tracker.ids, space=space
        )
        return made.choice

    def _advance(self) -> None:
        while self._made:
            number, made = next(iter(self._made.items()))
            if not made.is_ready:
                return
            del self._made[number]
            if made.choice is None:
                continue
            assert self.embeddings is not None
            found = self.embeddings.absorb(made.choice, made.vectors, made.also)
            if made.found is not None and not made.found.done():
                made.found.set_result(found)
