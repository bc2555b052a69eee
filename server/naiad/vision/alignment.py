"""Faces to upright crops: a similarity transform of five landmarks onto the ArcFace template. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from naiad.vision.arrays import Floats, Pixels

ARCFACE: tuple[tuple[float, float], ...] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Where the landmarks lie in a crop of 112 x 112 pixels: eyes, nose, mouth corners, left first."""
ARCFACE_SIZE = 112
_MIN_SPREAD = 1e-3
"""Landmarks nearer to each other than this, in pixels, give no direction."""
_MAX_COORDINATE = 1e6
"""Landmarks farther away, in pixels, belong to no picture, and overflow the warp's fixed-point numbers."""


def similarity_transform(landmarks: npt.ArrayLike, size: int = ARCFACE_SIZE) -> npt.NDArray[np.float64]:
    """Rotation, uniform scale and shift that bring landmarks nearest to the template (Umeyama 1991).

    Args:
        landmarks: `[5, 2]` (x, y) in pixels of the picture.
        size: side of the square crop in pixels.

    Returns:
        float64 `[2, 3]`, picture to crop.

    Raises:
        InvalidArgumentError: not five points, not finite, all in one place, or far outside any picture.
    """
    source = _checked(landmarks)
    target = np.array(ARCFACE) * (size / ARCFACE_SIZE)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred = source - source_mean
    variance = source_centred.var(axis=0).sum()
    if variance < _MIN_SPREAD**2:
        raise InvalidArgumentError(
            f"landmarks {source.tolist()} all lie in one place: no face can be aligned"
        )
    covariance = (target - target_mean).T @ source_centred / len(source)
    left, singular, right = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])  # no mirroring
    scale = float(singular @ signs) / variance
    if scale * np.sqrt(variance) < _MIN_SPREAD:
        raise InvalidArgumentError(f"landmarks {source.tolist()} do not resemble a face: no scale fits them")
    rotation = left @ np.diag(signs) @ right
    shift = target_mean - scale * rotation @ source_mean
    return np.column_stack([scale * rotation, shift])


def _checked(landmarks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    points = np.asarray(landmarks, np.float64)
    if points.shape != (len(ARCFACE), 2):
        raise InvalidArgumentError(
            f"landmarks have shape {list(points.shape)}, alignment needs exactly {len(ARCFACE)} points "
            "(x, y): eyes, nose and mouth corners"
        )
    if not np.isfinite(points).all():
        raise InvalidArgumentError(f"landmarks {points.tolist()} are not all finite numbers")
    if np.abs(points).max() > _MAX_COORDINATE:
        raise InvalidArgumentError(
            f"landmarks {points.tolist()} lie more than {_MAX_COORDINATE:.0f} pixels away from the picture"
        )
    return points


def align(image: Pixels, landmarks: npt.ArrayLike, size: int = ARCFACE_SIZE) -> Pixels:
    """Cut out one face, upright, bilinear, black where the picture ends.

    Args:
        image: uint8 `[H, W, 3]`.
        landmarks: `[5, 2]` in pixels of `image`.
        size: side of the crop in pixels.

    Returns:
        uint8 `[size, size, 3]`, in the channel order of `image`.

    Raises:
        InvalidArgumentError: as `similarity_transform`.
    """
    return warp(image, similarity_transform(landmarks, size), size)


def warp(image: Pixels, matrix: npt.NDArray[np.float64], size: int) -> Pixels:
    """The square crop of `size` pixels that a transform `[2, 3]` of the picture gives; see `align`."""
    crop: Pixels = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=0)
    return crop


def l2_normalize(vectors: Floats) -> Floats:
    """Vectors `[..., d]` at length 1; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32, copy=False)
    return unit
