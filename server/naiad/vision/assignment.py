"""Faces to tracks at least cost: overlap and distance, gated, solved exactly. Pure."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from naiad.vision.motion import Motion

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

# Measured on YuNet's faces in two clips, at every frame to every ninth: others broke or mixed more tracks.
_LEAST_OVERLAP = 0.2
_SPREADS = 3.0
"""A face that overlaps less must lie within this many standard deviations of where it is expected,"""
_SIDES = 3.0
"""and, however unsure that is, within this many heights of it."""
_MOST_GROWTH = 1.6
"""A face whose side is larger than the track's by this factor, or smaller, is another one."""
_DOUBT = 0.3
"""What a standard deviation of one height adds to a track's costs: of two, the one seen last wins."""
_GATED = 1e6
"""The cost of a pair that may not be: more than that of all the others."""


@functools.cache
def load_solver() -> Callable[[Numbers], tuple[Indices, Indices]]:
    """Import the solver, which takes 0.4 s: too long for the event loop, and for servers without tracks."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415

    return linear_sum_assignment  # type: ignore[no-any-return]  # scipy has no types


def is_solver_loaded() -> bool:
    """Whether `assign` comes without that import."""
    return load_solver.cache_info().currsize > 0


def assign(boxes: npt.NDArray[np.floating], tracks: Motion) -> tuple[Indices, Indices]:
    """Pair faces and tracks so that the costs' sum is least, as many as the gate lets through.

    A pair costs 1 minus its DIoU (Zheng et al. 2020: overlap, and where there is none the distance), and more
    the less sure the track's place is. The gate is in the constants above. Pairs that nothing else competes
    for are taken as they are; the rest is solved by `scipy.optimize.linear_sum_assignment`, cubic in its
    number.

    Args:
        boxes: `[n, 4]` (x1, y1, x2, y2) in pixels, of one class.
        tracks: `m` of them, of the same class, predicted.

    Returns:
        Indices of faces and of their tracks, int64 `[k]` each.
    """
    rows, columns, costs = _pairs(Motion.of(boxes).boxes, tracks)
    lone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    contested = ~lone
    faces, theirs = _solved(rows[contested], columns[contested], costs[contested])
    return np.append(rows[lone], faces), np.append(columns[lone], theirs)


def _solved(rows: Indices, columns: Indices, costs: Numbers) -> tuple[Indices, Indices]:
    faces, row = np.unique(rows, return_inverse=True)
    tracks, column = np.unique(columns, return_inverse=True)
    matrix = np.full((len(faces), len(tracks)), _GATED)
    matrix[row, column] = costs
    found, theirs = load_solver()(matrix)
    allowed = matrix[found, theirs] < _GATED
    return faces[found[allowed]], tracks[theirs[allowed]]


def _pairs(boxes: Numbers, tracks: Motion) -> tuple[Indices, Indices, Numbers]:
    """Faces and tracks that may belong together, and what each pair costs; all `[p]`."""
    expected, reach = tracks.boxes, tracks.reach(_SPREADS, _SIDES)
    sizes, expected_sizes = boxes[:, 2:] - boxes[:, :2], expected[:, 2:] - expected[:, :2]
    # Coarsest first, an axis at a time: most pairs of a crowd lie far apart, and few arrays are [n, m].
    near: Mask = np.ones((len(boxes), len(expected)), bool)
    for axis in (0, 1):
        away = (boxes[:, axis] + boxes[:, axis + 2])[:, None] - (expected[:, axis] + expected[:, axis + 2])
        half = np.maximum(2 * reach[:, axis], expected_sizes[:, axis] + sizes[:, axis].max(initial=0))
        near &= np.abs(away) <= half
    rows, columns = np.nonzero(near)
    overlap, distance, away = _compare(boxes[rows], expected[columns])
    growth = sizes[rows].prod(axis=1) / expected_sizes[columns].prod(axis=1)
    likely = (overlap >= _LEAST_OVERLAP) | (away <= reach[columns]).all(axis=1)
    likely &= (growth < _MOST_GROWTH**2) & (growth > _MOST_GROWTH**-2)
    costs = 1 - overlap + distance + _DOUBT * tracks.doubt[columns]
    return rows[likely], columns[likely], costs[likely]


def _compare(boxes: Numbers, expected: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Intersection over union `[p]`, DIoU's penalty `[p]`, and the centres' distance `[p, 2]` in pixels."""
    low, high = np.maximum(boxes[:, :2], expected[:, :2]), np.minimum(boxes[:, 2:], expected[:, 2:])
    common = np.maximum(high - low, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (expected[:, 2:] - expected[:, :2]).prod(axis=1)
    away = np.abs(boxes[:, :2] + boxes[:, 2:] - expected[:, :2] - expected[:, 2:]) / 2
    outer = np.maximum(boxes[:, 2:], expected[:, 2:]) - np.minimum(boxes[:, :2], expected[:, :2])
    return common / (areas - common), (away**2).sum(axis=1) / (outer**2).sum(axis=1), away
