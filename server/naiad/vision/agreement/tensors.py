"""Two answers' output tensors, value by value. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.core.datatypes import DataType
from naiad.vision.agreement.figures import AnswerSigns, TensorAgreement
from naiad.vision.agreement.numbers import are_finite, datatypes_of, numbers_of, row_count

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, Tensors


class Tolerance(NamedTuple):
    """Two numbers are the same if they differ by at most `atol` and `rtol` times the baseline's."""

    rtol: float
    atol: float


FULL = Tolerance(1e-3, 1e-5)
"""Of FP32 and FP64: what another engine or another order of sums may change."""
HALF = Tolerance(1e-2, 1e-3)
"""Of FP16, which has 11 bits."""
BRAIN = Tolerance(5e-2, 1e-2)
"""Of BF16, which has 8 bits."""


class _Tally(NamedTuple):
    """One output: its values, those that differ, the largest difference, and how far apart they lie, 0..1."""

    values: int
    mismatched: int
    max_difference: float
    apart: float


def agree_on_tensors(config: ModelConfig, baseline: Tensors, candidate: Tensors) -> TensorAgreement:
    """How far the candidate has the baseline's outputs.

    Floating point numbers are compared with the tolerance of the coarser datatype, and NaN is NaN; whole
    numbers, booleans and texts must be equal. An output that is missing or has another shape is all
    mismatched; what the candidate has beside is not looked at.

    The disagreement is the share of mismatched values times 0.5 to 1, by how far apart the values lie
    (the norm of the difference over the sum of norms), so that of answers that all differ the worst rank
    highest.
    """
    datatypes = datatypes_of(config)
    tallies = [_compare(array, candidate.get(name), datatypes.get(name)) for name, array in baseline.items()]
    values, mismatched = sum(each.values for each in tallies), sum(each.mismatched for each in tallies)
    weighted = sum(each.mismatched * (0.5 + 0.5 * each.apart) for each in tallies)
    return TensorAgreement(
        values=values,
        mismatched=mismatched,
        max_difference=max((each.max_difference for each in tallies), default=0.0),
        disagreement=min(1.0, weighted / values) if values else 0.0,
    )


def tensor_signs(config: ModelConfig, outputs: Tensors, inputs: Tensors) -> AnswerSigns:
    """What the tensors of one answer show."""
    return AnswerSigns(
        "tensors", row_count(config, inputs), None, None, None, are_finite(outputs, outputs, config)
    )


def _compare(baseline: Array, candidate: Array | None, datatype: DataType | None) -> _Tally:
    if candidate is None or candidate.shape != baseline.shape:
        values = max(baseline.size, 0 if candidate is None else candidate.size, 1)
        return _Tally(values, values, 0.0, 1.0)
    mine, theirs = numbers_of(baseline, datatype), numbers_of(candidate, datatype)
    if mine.dtype.kind == "f" and theirs.dtype.kind == "f":
        return _compare_floats(mine, theirs, _tolerance(mine, theirs, datatype))
    differs = np.asarray(mine != theirs, bool)
    mismatched = int(differs.sum())
    numeric = {mine.dtype.kind, theirs.dtype.kind} <= set("biuf")
    largest = 0.0
    if mismatched and numeric:
        # As floats before they are subtracted: unsigned integers would wrap.
        largest = float(np.abs(mine[differs].astype(np.float64) - theirs[differs].astype(np.float64)).max())
    return _Tally(mine.size, mismatched, largest, mismatched / mine.size if mine.size else 0.0)


def _tolerance(mine: Array, theirs: Array, datatype: DataType | None) -> Tolerance:
    if datatype is DataType.BF16:
        return BRAIN
    return HALF if min(mine.dtype.itemsize, theirs.dtype.itemsize) == 2 else FULL


def _compare_floats(mine: Array, theirs: Array, tolerance: Tolerance) -> _Tally:
    """Two arrays of floating point numbers of one shape."""
    kind = np.result_type(mine, theirs, np.float32)
    left, right = mine.astype(kind, copy=False).ravel(), theirs.astype(kind, copy=False).ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(right - left)
        same = difference <= tolerance.atol + tolerance.rtol * np.abs(left)
    finite = np.isfinite(left) & np.isfinite(right)
    # An infinite limit lets everything through: what is not finite must be the same.
    same = np.where(finite, same, (left == right) | (np.isnan(left) & np.isnan(right)))
    mismatched = int(left.size - same.sum())
    if not mismatched:
        return _Tally(left.size, 0, _largest(difference, finite), 0.0)
    lost = not finite.all() and not same[~finite].all()
    apart = 1.0 if lost else _apart(left[finite], right[finite], difference[finite])
    return _Tally(left.size, mismatched, _largest(difference, finite), apart)


def _largest(difference: npt.NDArray[np.floating], finite: npt.NDArray[np.bool_]) -> float:
    """The largest difference that is a number; two that lie too far apart have none that float holds."""
    known = difference[finite]
    if not known.size:
        return 0.0
    return float(min(known.max(), np.finfo(known.dtype).max))


def _apart(
    left: npt.NDArray[np.floating], right: npt.NDArray[np.floating], difference: npt.NDArray[np.floating]
) -> float:
    """The norm of the difference over the sum of norms, 0..1."""
    # By the largest first: squares of large numbers overflow.
    scale = max(np.abs(left).max(initial=0), np.abs(right).max(initial=0))
    if not scale:
        return 0.0
    with np.errstate(over="ignore"):
        parts = [
            float(np.linalg.norm((each / scale).astype(np.float64))) for each in (difference, left, right)
        ]
    return min(1.0, parts[0] / (parts[1] + parts[2]))
