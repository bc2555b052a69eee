"""The faces of two answers, matched. Pure.

Each answer is read by the model's own head, in pixels of the model's input. Faces of one picture are matched
one to one, within their class, so that the sum of IoUs is greatest among pairs of at least 0.5.

A face that has no partner, and whose score is less than 0.05 above the score threshold, does not count on
either side: its partner may lie just below the threshold, where no version is wrong.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.config.vision_config import Layout
from naiad.core.errors import InvalidArgumentError
from naiad.vision.agreement.figures import AnswerSigns, DetectionAgreement
from naiad.vision.agreement.numbers import UNREADABLE, are_finite, row_count
from naiad.vision.assignment import load_solver
from naiad.vision.transform import Transform

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections
    from naiad.vision.detector import Detector

    Numbers = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

LEAST_OVERLAP = 0.5
"""IoU from which two faces are the same one."""
MARGIN = 0.05
"""Above the score threshold by less than this, a face without a partner does not count."""
_TIE = 1e-6
"""Of pairs that overlap as much those of nearer scores are taken, so that it does not matter who is first."""
_EYES_FIRST = frozenset({5, 6})
"""Numbers of landmarks whose first two are the eyes, in every head that gives so many."""
_LEAST_UNIT = 0.25
"""Eyes of a face from the side lie in one place; the unit is at least this share of the box's width."""
_OTHER_UNIT = 0.5
"""The unit of other landmarks, as a share of the box's width: about where a face's eyes lie."""


class _Tally(NamedTuple):
    """Sums over matched faces, and counts; those of several pictures add up."""

    baseline: int = 0
    candidate: int = 0
    matched: int = 0
    overlap: float = 0.0
    shift: float = 0.0
    landmark_error: float = 0.0
    with_landmarks: int = 0

    def plus(self, other: _Tally) -> _Tally:
        return _Tally(*map(operator.add, self, other))


def agree_on_faces(
    detector: Detector, config: ModelConfig, baseline: Tensors, candidate: Tensors, inputs: Tensors
) -> DetectionAgreement | None:
    """How far two answers have the same faces; None if the baseline's has not all that its head reads.

    A candidate's answer that the head cannot read has no faces, and a disagreement of 1; so has one with
    numbers that are not finite where the baseline's all are.
    """
    found = read_faces(detector, config, baseline, inputs)
    if found is None:
        return None
    other = read_faces(detector, config, candidate, inputs)
    tally = _Tally()
    for mine, theirs in zip(found, other or [_none_of(each) for each in found], strict=True):
        tally = tally.plus(_compare(mine, theirs, _surely(config)))
    names = detector.output_names
    is_worse = are_finite(baseline, names, config) and not are_finite(candidate, names, config)
    return _agreement(tally, is_total=other is None or is_worse)


def face_signs(detector: Detector, config: ModelConfig, outputs: Tensors, inputs: Tensors) -> AnswerSigns:
    """What one answer shows; one that lacks what the head reads shows no more than its tensors do."""
    rows, is_finite = row_count(config, inputs), are_finite(outputs, outputs, config)
    if any(name not in outputs for name in detector.output_names):
        return AnswerSigns("tensors", rows, None, None, None, is_finite)
    found = read_faces(detector, config, outputs, inputs)
    if found is None:
        return AnswerSigns("detect", rows, None, None, None, is_finite=False)
    best = [float(faces.scores.max()) for faces in found if len(faces)]
    top = sum(best) / len(best) if best else None
    is_finite = are_finite(outputs, detector.output_names, config)
    return AnswerSigns("detect", rows, sum(map(len, found)), top, None, is_finite)


def read_faces(
    detector: Detector, config: ModelConfig, outputs: Tensors, inputs: Tensors
) -> list[Detections] | None:
    """The faces of each picture, in pixels of the model's input; None if the head cannot read the outputs."""
    try:
        with np.errstate(all="ignore"):
            return detector.head.decode(outputs, input_transforms(config, inputs))
    except UNREADABLE:
        return None


def input_transforms(config: ModelConfig, inputs: Tensors) -> list[Transform]:
    """For each picture of a request the way from the model's input to itself.

    Raises:
        InvalidArgumentError: the request has no pictures.
    """
    vision = config.vision
    tensor = None if vision is None else inputs.get(vision.input.tensor)
    if vision is None or tensor is None or tensor.ndim < 3:
        raise InvalidArgumentError(f"the request to model '{config.name}' has no tensor of pictures")
    height, width = tensor.shape[-2:] if vision.input.layout is Layout.NCHW else tensor.shape[-3:-1]
    return [Transform(1, 1, 0, 0, width, height, width, height)] * row_count(config, inputs)


def overlaps(boxes: Floats, others: Floats) -> Numbers:
    """Intersection over union of each of `boxes` `[n, 4]` with each of `others` `[m, 4]`: `[n, m]`."""
    left, right = boxes.astype(np.float64)[:, None], others.astype(np.float64)[None]
    sides = np.minimum(left[..., 2:], right[..., 2:]) - np.maximum(left[..., :2], right[..., :2])
    common = np.maximum(sides, 0).prod(axis=-1)
    areas = [np.maximum(each[..., 2:] - each[..., :2], 0).prod(axis=-1) for each in (left, right)]
    union = areas[0] + areas[1] - common
    shared: Numbers = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shared


def _surely(config: ModelConfig) -> float:
    """The score from which a face counts even without a partner."""
    assert config.vision is not None
    assert config.vision.detect is not None
    threshold = config.vision.detect.score_threshold
    return threshold + min(MARGIN, (1 - threshold) / 2)


def _none_of(faces: Detections) -> Detections:
    return faces.take(slice(0, 0))


def _compare(mine: Detections, theirs: Detections, surely: float) -> _Tally:
    """One picture's faces."""
    rows, columns, shared = _matched(mine, theirs)
    matched = len(rows)
    errors = _landmark_errors(mine.take(rows), theirs.take(columns))
    return _Tally(
        baseline=matched + _count_surely(mine.scores, rows, surely),
        candidate=matched + _count_surely(theirs.scores, columns, surely),
        matched=matched,
        overlap=float(shared.sum()),
        shift=float((theirs.scores[columns].astype(np.float64) - mine.scores[rows]).sum()),
        landmark_error=float(errors.sum()),
        with_landmarks=len(errors),
    )


def _matched(mine: Detections, theirs: Detections) -> tuple[Indices, Indices, Numbers]:
    """The pairs: indices of both and their IoU."""
    shared = overlaps(mine.boxes, theirs.boxes)
    if mine.labels is not None and theirs.labels is not None:
        shared[mine.labels[:, None] != theirs.labels[None]] = 0
    shared[shared < LEAST_OVERLAP] = 0
    apart = np.abs(mine.scores[:, None].astype(np.float64) - theirs.scores[None])
    costs = np.where(shared > 0, _TIE * apart - shared, 0)
    rows, columns = load_solver()(costs) if shared.any() else np.nonzero(shared)
    kept = shared[rows, columns] > 0
    return rows[kept], columns[kept], shared[rows[kept], columns[kept]]


def _count_surely(scores: Floats, matched: Indices, surely: float) -> int:
    """The faces without a partner that count."""
    return int((np.delete(scores, matched) >= surely).sum())


def _landmark_errors(mine: Detections, theirs: Detections) -> Numbers:
    """The mean distance of the landmarks of each pair, in units of the baseline's eyes; none without them."""
    points, others = mine.landmarks, theirs.landmarks
    if points is None or others is None or points.shape != others.shape or not points.shape[1]:
        return np.empty(0)
    points, others = points.astype(np.float64), others.astype(np.float64)
    distances: Numbers = np.linalg.norm(points - others, axis=2).mean(axis=1)
    widths = mine.boxes[:, 2].astype(np.float64) - mine.boxes[:, 0]
    if points.shape[1] in _EYES_FIRST:
        unit = np.maximum(np.linalg.norm(points[:, 0] - points[:, 1], axis=1), _LEAST_UNIT * widths)
    else:
        unit = _OTHER_UNIT * widths
    errors: Numbers = distances / np.maximum(unit, 1.0)
    return errors


def _agreement(tally: _Tally, *, is_total: bool) -> DetectionAgreement:
    """The figures; `is_total` says that the candidate's answer is worth nothing."""
    matched = tally.matched
    union = tally.baseline + tally.candidate - matched
    apart = (union - tally.overlap) / union if union else 0.0
    return DetectionAgreement(
        baseline=tally.baseline,
        candidate=tally.candidate,
        matched=matched,
        mean_iou=tally.overlap / matched if matched else 0.0,
        landmark_error=tally.landmark_error / tally.with_landmarks if tally.with_landmarks else None,
        score_shift=tally.shift / matched if matched else 0.0,
        disagreement=1.0 if is_total else min(1.0, max(0.0, apart)),
    )
