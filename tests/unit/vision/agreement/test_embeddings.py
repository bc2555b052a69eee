"""Vectors of two answers: cosines, norms, orders of neighbours, and what cannot be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.stats
from support.agreement import embedder, pictures, vectors

from naiad.vision.agreement import EmbeddingAgreement, RankWindow, TensorAgreement, agree, signs
from naiad.vision.agreement.embeddings import LEAST_NEIGHBOURS, rank_correlation

if TYPE_CHECKING:
    import numpy.typing as npt


def compared(
    baseline: Any, candidate: Any, window: RankWindow | None = None, *, same_space: bool = True
) -> EmbeddingAgreement:
    vision, config = embedder(len(baseline[0]))
    found = agree(
        vision,
        config,
        vectors(*baseline),
        vectors(*candidate),
        pictures(len(baseline)),
        window=window,
        same_space=same_space,
    )
    assert isinstance(found, EmbeddingAgreement)
    return found


def people(rows: int, dims: int, seed: int = 3) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, dims))


def test_an_answer_agrees_with_itself_in_full() -> None:
    found = compared(people(3, 8), people(3, 8))
    assert (found.rows, found.norm_ratio, found.rank_agreement) == (3, 1.0, None)
    assert found.mean_cosine == pytest.approx(1)
    assert found.disagreement == pytest.approx(0, abs=1e-12)


def test_cosines_and_norms_are_those_of_the_raw_vectors() -> None:
    """The config asks for vectors of length 1; lengths are told all the same."""
    found = compared([[3, 0], [0, 2]], [[6, 0], [1, 1]])
    assert found.mean_cosine == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert found.min_cosine == pytest.approx(np.sqrt(0.5))
    assert found.norm_ratio == pytest.approx((6 + np.sqrt(2)) / 5)
    assert found.disagreement == pytest.approx((1 - found.mean_cosine) / 2)


def test_opposite_vectors_disagree_in_full() -> None:
    assert compared([[1, 2]], [[-1, -2]]).disagreement == pytest.approx(1)


def test_ratios_of_norms_have_bounds() -> None:
    assert compared([[0, 0]], [[1, 0]]).norm_ratio == 1000
    assert compared([[1, 0]], [[0, 0]]).norm_ratio == 0.001
    assert compared([[0, 0]], [[0, 0]]).norm_ratio == 1


def test_spaces_that_differ_by_a_turn_have_the_same_order_of_neighbours() -> None:
    """Cosines between the two spaces say nothing: what is kept is who is like whom."""
    mine = people(40, 16)
    turn, _ = np.linalg.qr(people(16, 16, seed=9))
    window = RankWindow()
    found = compared(mine, mine @ turn, window, same_space=False)
    assert abs(found.mean_cosine) < 0.5
    assert found.rank_agreement == pytest.approx(1, abs=1e-4)
    assert found.disagreement == pytest.approx(0, abs=1e-4)
    assert len(window) == 40


def test_spaces_that_have_nothing_in_common_order_at_random() -> None:
    found = compared(people(60, 16), people(60, 16, seed=4), same_space=False)
    assert found.rank_agreement is not None
    assert abs(found.rank_agreement) < 0.2
    assert found.disagreement > 0.8


def test_vectors_of_other_lengths_are_never_of_one_space() -> None:
    mine = people(40, 16)
    found = compared(mine, np.hstack([mine, np.zeros((40, 4))]))
    assert (found.mean_cosine, found.min_cosine) == (0, 0)
    assert found.rank_agreement == pytest.approx(1, abs=1e-4)
    assert found.disagreement == pytest.approx(0, abs=1e-4)
    assert found.norm_ratio == pytest.approx(1)


def test_with_too_few_neighbours_another_space_shows_no_disagreement() -> None:
    found = compared(people(LEAST_NEIGHBOURS, 4), people(LEAST_NEIGHBOURS, 5), same_space=False)
    assert (found.rank_agreement, found.disagreement) == (None, 0)


def test_the_window_goes_from_request_to_request_as_from_row_to_row() -> None:
    mine, theirs = people(30, 8), people(30, 8, seed=5)
    together, apart = RankWindow(16), RankWindow(16)
    whole = together.add(mine, theirs)
    steps = [apart.add(mine[row : row + 1], theirs[row : row + 1]) for row in range(30)]
    known = [step for step in steps if step is not None]
    assert steps[:LEAST_NEIGHBOURS] == [None] * LEAST_NEIGHBOURS
    assert len(known) == 30 - LEAST_NEIGHBOURS
    assert whole == pytest.approx(sum(known) / len(known))
    assert len(together) == len(apart) == 16


def test_the_window_begins_anew_with_vectors_of_another_length() -> None:
    window = RankWindow()
    window.add(people(20, 8), people(20, 8))
    assert window.add(people(1, 8), people(1, 9)) is None
    assert len(window) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_correlation_of_ranks_is_spearmans_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, 6, 20).astype(float), rng.normal(size=20)
    assert rank_correlation(left, right) == pytest.approx(scipy.stats.spearmanr(left, right).statistic)


def test_no_order_has_no_correlation() -> None:
    assert rank_correlation(np.ones(9), np.arange(9.0)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_candidate_that_is_not_finite_disagrees(value: float) -> None:
    found = compared([[1, 0], [0, 1]], [[1, 0], [value, 1]])
    assert (found.rows, found.mean_cosine, found.min_cosine, found.disagreement) == (2, 0.5, 0, 1)
    assert found.norm_ratio == 1


def test_a_baseline_that_is_not_finite_says_nothing_of_the_candidate() -> None:
    found = compared([[1, 0], [np.nan, 1]], [[1, 0], [5, 5]])
    assert (found.rows, found.mean_cosine, found.disagreement) == (1, 1, 0)
    assert compared([[np.nan, 1]], [[5, 5]]) == EmbeddingAgreement(0, 1.0, 1.0, 1.0, None, 0.0)


@pytest.mark.parametrize("broken", [{}, vectors([1, 2]), {"vector": np.zeros(3, np.float32)}])
def test_a_candidate_without_its_vectors_disagrees(broken: dict[str, Any]) -> None:
    vision, config = embedder(2)
    found = agree(vision, config, vectors([1, 0], [0, 1]), broken, pictures(2))
    assert found == EmbeddingAgreement(2, 0.0, 0.0, 1.0, None, 1.0)


def test_a_baseline_without_vectors_is_compared_as_tensors() -> None:
    vision, config = embedder(2)
    other = {"quality": np.ones((1, 1), np.float32)}
    assert agree(vision, config, other, other | vectors([1, 2]), pictures(1)) == TensorAgreement(
        1, 0, 0.0, 0.0
    )


def test_an_answer_shows_the_mean_length_of_its_finite_vectors() -> None:
    vision, config = embedder(2)
    told = signs(vision, config, vectors([3, 4], [0, 1]), pictures(2))
    assert (told.task, told.rows, told.detections, told.norm, told.is_finite) == ("embed", 2, None, 3, True)
    told = signs(vision, config, vectors([3, 4], [np.nan, 1]), pictures(2))
    assert (told.norm, told.is_finite) == (5, False)
    assert signs(vision, config, vectors([np.nan, 1]), pictures(1)).norm is None
    assert signs(vision, config, {}, pictures(1)).task == "tensors"
