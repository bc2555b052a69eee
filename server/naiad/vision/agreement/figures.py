"""What two answers to one request have in common, and what one answer shows by itself: the figures. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

AnswerTask: TypeAlias = Literal["detect", "embed", "tensors"]


@dataclass(frozen=True, slots=True)
class DetectionAgreement:
    """The faces that two versions found in the pictures of one request.

    `baseline` and `candidate` are the faces of each that count, `matched` those that both have: the candidate
    missed `baseline - matched` and has `candidate - matched` more. The rest is of matched faces, and 0 where
    there are none: `mean_iou` 0..1; `landmark_error`, the mean distance of their landmarks in units of the
    distance between the eyes (None without landmarks); `score_shift`, the mean of candidate - baseline.
    `disagreement` is 0..1: each face of either counts 1 if only one has it, and 1 - IoU if both have.
    """

    task: ClassVar[AnswerTask] = "detect"

    baseline: int
    candidate: int
    matched: int
    mean_iou: float
    landmark_error: float | None
    score_shift: float
    disagreement: float


@dataclass(frozen=True, slots=True)
class EmbeddingAgreement:
    """The raw vectors that two versions gave for the crops of one request.

    `rows` counts the pairs that were compared. Cosines are -1..1, and 0 where vectors differ in length or the
    candidate's are not finite; of no pairs they are 1. `norm_ratio` is the candidate's mean norm over the
    baseline's, 0.001..1000. `rank_agreement` is -1..1: whether a vector has the same neighbours in both
    spaces; None where too few were seen. `disagreement` is 0..1.
    """

    task: ClassVar[AnswerTask] = "embed"

    rows: int
    mean_cosine: float
    min_cosine: float
    norm_ratio: float
    rank_agreement: float | None
    disagreement: float


@dataclass(frozen=True, slots=True)
class TensorAgreement:
    """The output tensors of two versions, value by value.

    `mismatched` of `values` lie beyond tolerance, are missing, or are of another shape. `max_difference` is
    the largest among finite pairs of numbers. `disagreement` is 0..1.
    """

    task: ClassVar[AnswerTask] = "tensors"

    values: int
    mismatched: int
    max_difference: float
    disagreement: float


Agreement: TypeAlias = DetectionAgreement | EmbeddingAgreement | TensorAgreement


@dataclass(frozen=True, slots=True)
class AnswerSigns:
    """What one answer alone shows.

    `rows` are the pictures or crops of the request. `detections` are the faces in all of them and `top_score`
    the mean, over the rows with a face, of the best one's score; None where no faces are looked for, the
    head could not read the answer, or (`top_score`) there are none. `norm` is the mean length of the raw
    vectors that are finite. `is_finite` says that no number is NaN or infinite, and that a head could read
    them.
    """

    task: AnswerTask
    rows: int
    detections: int | None
    top_score: float | None
    norm: float | None
    is_finite: bool


_KINDS: Mapping[str, type[DetectionAgreement | EmbeddingAgreement | TensorAgreement]] = {
    kind.task: kind for kind in (DetectionAgreement, EmbeddingAgreement, TensorAgreement)
}


def agreement_to_dict(agreement: Agreement) -> dict[str, Any]:
    """The figures by name, plain enough for JSON, with the `task` that tells which they are."""
    return {"task": agreement.task, **asdict(agreement)}


def agreement_from_dict(told: Mapping[str, Any]) -> Agreement:
    """The other way round.

    Raises:
        InvalidArgumentError: `told` is not what `agreement_to_dict` gives.
    """
    figures = dict(told)
    kind = _KINDS.get(str(figures.pop("task", None)))
    if kind is None or figures.keys() != set(kind.__slots__):
        raise InvalidArgumentError(
            f"no agreement has these figures: {sorted(told)}, task {told.get('task')!r}"
        )
    return kind(**figures)
