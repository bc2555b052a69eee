"""The vectors of two answers: how alike they are, and whether they have the same neighbours. Pure.

Vectors of two versions may be compared with each other only where the versions share an embedding space.
Where they do not, what can be compared are orders: the faces seen before, from the likest to the least like,
as each space has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.vision.agreement.figures import AnswerSigns, EmbeddingAgreement
from naiad.vision.agreement.numbers import UNREADABLE, are_finite, row_count

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Tensors
    from naiad.vision.embedder import Embedder

    Numbers = npt.NDArray[np.float64]

DEFAULT_WINDOW = 64
LEAST_NEIGHBOURS = 8
"""Vectors that must have been seen before an order of them says anything."""
_MOST_RATIO = 1_000.0
"""Ratios of norms are held between this and its inverse: their logarithm is taken."""


class _Pairs(NamedTuple):
    """Rows whose baseline vector is finite. `usable` are those whose candidate vector is, too."""

    baseline: Numbers
    candidate: Numbers
    usable: npt.NDArray[np.bool_]


class RankWindow:
    """The last pairs of vectors of two versions, and how far both order them alike. For one thread."""

    def __init__(self, size: int = DEFAULT_WINDOW) -> None:
        """Keep at most `size` pairs."""
        self._size = size
        self._baseline: Numbers = np.empty((0, 0))
        self._candidate: Numbers = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._baseline)

    def add(self, baseline: Numbers, candidate: Numbers) -> float | None:
        """Take pairs in, each after it was compared with those before it.

        Args:
            baseline: finite vectors, `[n, d]`.
            candidate: of the same faces, `[n, e]`; another `d` or `e` empties the window first.

        Returns:
            The mean over the pairs of Spearman's correlation, -1..1, between the orders in which the two
            spaces have the pairs of the window, by cosine; None if no pair had enough before it.
        """
        mine, theirs = _unit(baseline), _unit(candidate)
        if (mine.shape[1], theirs.shape[1]) != (self._baseline.shape[1], self._candidate.shape[1]):
            self._baseline, self._candidate = mine[:0], theirs[:0]
        before = len(self._baseline)
        mine, theirs = np.concatenate([self._baseline, mine]), np.concatenate([self._candidate, theirs])
        found = []
        for index in range(before, len(mine)):
            earlier = slice(max(0, index - self._size), index)
            if index - earlier.start >= LEAST_NEIGHBOURS:
                found.append(rank_correlation(mine[earlier] @ mine[index], theirs[earlier] @ theirs[index]))
        kept = max(0, len(mine) - self._size)
        self._baseline, self._candidate = mine[kept:].copy(), theirs[kept:].copy()
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None


def agree_on_vectors(
    embedder: Embedder,
    answers: tuple[Tensors, Tensors],
    window: RankWindow,
    *,
    same_space: bool,
) -> EmbeddingAgreement | None:
    """How far two answers have the same vectors; None if there are none in the baseline's.

    Rows whose baseline is not finite say nothing of the candidate and are left out. A candidate's answer that
    cannot be read, or with a vector that is not finite, has a disagreement of 1; else it is half of what the
    mean cosine lacks of 1, or, in spaces that differ, what the rank agreement lacks of 1.

    Args:
        embedder: of the model.
        answers: the baseline's outputs and the candidate's.
        window: takes the pairs in.
        same_space: whether the vectors are meant to be alike.
    """
    baseline, candidate = (_vectors(embedder, outputs) for outputs in answers)
    if baseline is None:
        return None
    finite = np.isfinite(baseline).all(axis=1)
    if candidate is None or len(candidate) != len(baseline):
        return EmbeddingAgreement(int(finite.sum()), 0.0, 0.0, 1.0, None, 1.0)
    candidate = candidate[finite]
    pairs = _Pairs(baseline[finite], candidate, np.asarray(np.isfinite(candidate).all(axis=1)))
    return _agreement(pairs, window, same_space=same_space)


def vector_signs(embedder: Embedder, config: ModelConfig, outputs: Tensors, inputs: Tensors) -> AnswerSigns:
    """What one answer shows; one without vectors shows no more than its tensors do."""
    rows, is_finite = row_count(config, inputs), are_finite(outputs, outputs, config)
    if any(name not in outputs for name in embedder.output_names):
        return AnswerSigns("tensors", rows, None, None, None, is_finite)
    vectors = _vectors(embedder, outputs)
    if vectors is None:
        return AnswerSigns("embed", rows, None, None, None, is_finite=False)
    norms = np.linalg.norm(vectors, axis=1)
    finite = np.isfinite(norms)
    norm = float(norms[finite].mean()) if finite.any() else None
    return AnswerSigns("embed", rows, None, None, norm, bool(finite.all()))


def rank_correlation(left: Numbers, right: Numbers) -> float | None:
    """Spearman's: -1 for opposite orders to 1 for the same; None if one side has no order at all."""
    ranks = np.stack([_ranks(left), _ranks(right)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1)
    return float(np.clip(ranks[0] @ ranks[1] / lengths.prod(), -1, 1)) if lengths.all() else None


def _ranks(values: Numbers) -> Numbers:
    """Places in ascending order; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    places: Numbers = np.cumsum(counts) - (counts - 1) / 2
    return places[inverse]


def _vectors(embedder: Embedder, outputs: Tensors) -> Numbers | None:
    """Raw vectors, float64 `[N, d]`; None if there are none."""
    try:
        with np.errstate(all="ignore"):
            return embedder.vectors(outputs, normalize=False).astype(np.float64)
    except UNREADABLE:
        return None


def _unit(vectors: Numbers) -> Numbers:
    """Scaled to length 1; those without a length stay as they are."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Numbers = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit


def _agreement(pairs: _Pairs, window: RankWindow, *, same_space: bool) -> EmbeddingAgreement:
    baseline, candidate, usable = pairs
    rank = window.add(baseline[usable], candidate[usable]) if usable.any() else None
    cosines = np.zeros(len(baseline))
    if baseline.shape[1] == candidate.shape[1]:
        cosines[usable] = (_unit(baseline[usable]) * _unit(candidate[usable])).sum(axis=1).clip(-1, 1)
        apart = (1 - float(cosines.mean())) / 2 if len(cosines) else 0.0
    else:
        same_space, apart = False, 0.0
    if not same_space:
        apart = 0.0 if rank is None else min(1.0, 1 - rank)
    return EmbeddingAgreement(
        rows=len(baseline),
        mean_cosine=float(cosines.mean()) if len(cosines) else 1.0,
        min_cosine=float(cosines.min()) if len(cosines) else 1.0,
        norm_ratio=_norm_ratio(baseline[usable], candidate[usable]),
        rank_agreement=rank,
        disagreement=apart if usable.all() else 1.0,
    )


def _norm_ratio(baseline: Numbers, candidate: Numbers) -> float:
    """The mean norm of the one over that of the other, within bounds; 1 if neither has any."""
    mine, theirs = (float(np.linalg.norm(each, axis=1).sum()) for each in (baseline, candidate))
    if mine == theirs:
        return 1.0
    return min(_MOST_RATIO, max(1 / _MOST_RATIO, theirs / mine)) if mine else _MOST_RATIO
