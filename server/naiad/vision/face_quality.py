"""How well a face can be embedded, from its detection alone. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.vision.alignment import ARCFACE, ARCFACE_SIZE

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.vision.detections import Detections

    Numbers = npt.NDArray[np.float64]

_TINY = 1e-9


def face_quality(detections: Detections) -> Numbers:
    """Quality 0..1 of each face, float64 `[n]`: `size * score**2 * pose`.

    - size: pixels of the picture for each pixel of the aligned crop, along a side, at most 1: what is smaller
      than the crop is blown up, what is larger gains nothing.
    - score: the detector's, squared: it falls with blur, with what hides the face, at the picture's edge.
    - pose: how much of the five landmarks' layout the frontal template explains after alignment, 0..1 (the
      squared correlation of two shapes, one less the normalised Procrustes distance: Gower 1975).

    Over two clips the score told most about how near an embedding is to the mean of its track, size some,
    pose little. Without five landmarks, pose is 1 and size is measured by the box. Sharpness is not looked
    at: that would take the pixels of every face.
    """
    landmarks = detections.landmarks
    if landmarks is None or landmarks.shape[1] != len(ARCFACE):
        sides = np.maximum(detections.boxes[:, 2:] - detections.boxes[:, :2], 0).astype(np.float64)
        size, pose = np.sqrt(sides.prod(axis=1)) / ARCFACE_SIZE, np.ones(len(detections))
    else:
        size, pose = _aligned(landmarks.astype(np.float64))
    scores = np.clip(detections.scores.astype(np.float64), 0, 1)
    quality: Numbers = np.minimum(size, 1) * scores**2 * pose
    return quality


def _aligned(landmarks: Numbers) -> tuple[Numbers, Numbers]:
    """Size and pose by the best similarity transform, which for points as complex numbers is one product."""
    template = _centred(np.array([ARCFACE]))
    points = _centred(landmarks)
    spread, wanted = (np.abs(points) ** 2).sum(axis=1), (np.abs(template) ** 2).sum()
    common = np.maximum(np.abs((points.conj() * template).sum(axis=1)), _TINY)
    return spread / common, common**2 / np.maximum(spread * wanted, _TINY)


def _centred(points: Numbers) -> npt.NDArray[np.complex128]:
    numbers: npt.NDArray[np.complex128] = points[..., 0] + 1j * points[..., 1]
    numbers -= numbers.mean(axis=1, keepdims=True)
    return numbers
