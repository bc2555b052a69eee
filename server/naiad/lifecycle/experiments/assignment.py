"""Which version answers a key: a stable hash into arcs of 0 to 1, the same on every server. Pure.

Candidates, ascending by their number, own arcs of 0 to 1: the first from 0 upwards, the second from 1
downwards, the third behind the first, and so on in turn. The baseline owns what is left between them:

    0 ── first ──┬── third ──┬────── baseline ──────┬── fourth ──┬── second ── 1

So a weight that grows at the baseline's cost moves keys from the baseline to that candidate, and no other
ones. A version of weight 0 keeps its place: who takes the first of two candidates out moves the other one.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from hashlib import blake2b
from itertools import pairwise
from math import fsum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from naiad.config.experiment_config import ExperimentConfig

_POINT_BITS = 53
"""What a float holds exactly: with all 64 bits the highest points would be rounded up to 1."""
_SCALE = 2.0**-_POINT_BITS


def point_of(salt: str, key: str) -> float:
    r"""Where a key lies, from 0 to below 1: the first eight bytes of BLAKE2b-512 over `salt`, NUL and `key`.

    The bytes are a number, the highest first, over 2**64, rounded down to what a float holds. So
    `printf 'salt\0key' | b2sum` shows the same in its first 16 digits.
    """
    return _point(_prefix(salt), key)


class Routes:
    """What an experiment means for now: arcs, listed keys, and who stands in for whom. Never changes."""

    __slots__ = ("_answers", "_cuts", "_draw", "_listed", "_owners", "_prefix", "next_change", "standing")

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        ready: Collection[int],
        now: float,
        excluded: Collection[int] = (),
        promoted: int | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Find out who answers from `now` until `next_change`, or until one of the arguments changes.

        Args:
            config: the experiment.
            ready: versions that are loaded and may answer.
            now: seconds since 1970.
            excluded: versions that were rolled back; none of them is chosen. The baseline cannot be one.
            promoted: the version that answers everybody, listed keys too, while it is ready; None for none.
            draw: gives the point, from 0 to below 1, of a request without a key.
        """
        self.next_change = config.next_change(now)
        """When the ramp's next step is due, in seconds since 1970; None if there is none left."""
        usable = (set(ready) - set(excluded)) | ({config.baseline} & set(ready))
        answering = usable & set(config.answering)
        fallback = config.baseline if config.baseline in answering else max(answering, default=None)
        self.standing = fallback
        """The version of who takes no part; None if none may answer."""
        cuts, owners = _arcs(config, config.weights_at(now))
        listed = config.listed
        if promoted in usable and promoted in config.versions:
            cuts, owners, listed = (), (promoted,), {}
            self.standing = promoted
            answering.add(promoted)
        self._answers = {
            version: version if version in answering else fallback for version in (*owners, *config.answering)
        }
        self._cuts = cuts
        self._owners = tuple(self._answers[owner] for owner in owners)
        self._listed = listed
        self._prefix = _prefix(config.name)
        self._draw = draw

    def choose(self, key: str | None) -> int | None:
        """The version that answers; None if none of the experiment's is ready and not rolled back.

        Args:
            key: what makes the caller sticky; None lets the request draw its point.
        """
        if key is None:
            return self._owners[bisect_right(self._cuts, self._draw())]
        if key in self._listed:
            return self._answers[self._listed[key]]
        if not self._cuts:
            return self._owners[0]
        return self._owners[bisect_right(self._cuts, _point(self._prefix, key))]

    def share_of(self, version: int) -> float:
        """The part of the points, 0 to 1, that a version answers; listed keys are not counted in."""
        arcs = zip(self._owners, pairwise((0.0, *self._cuts, 1.0)), strict=True)
        return fsum(end - start for owner, (start, end) in arcs if owner == version)


def _arcs(
    config: ExperimentConfig, weights: Mapping[int, float]
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Where arcs end, ascending, and whose they are: one arc more than ends."""
    total = fsum(weights.values())
    lefts, rights = config.candidates[0::2], config.candidates[1::2]

    def part(versions: Collection[int]) -> float:
        return fsum(weights.get(version, 0.0) for version in versions) / total

    # Each end is one rounded sum over the same total, so that ends ascend and no gap is left between arcs.
    left_ends = [part(lefts[: count + 1]) for count in range(len(lefts))]
    right_starts = [part(set(weights) - set(rights[: count + 1])) for count in range(len(rights))]
    return (*left_ends, *reversed(right_starts)), (*lefts, config.baseline, *reversed(rights))


def _prefix(salt: str) -> bytes:
    return salt.encode("utf-8", "surrogatepass") + b"\0"


def _point(prefix: bytes, key: str) -> float:
    digest = blake2b(prefix + key.encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - _POINT_BITS)) * _SCALE
