"""Face models as their authors published them, and a photo as each model's input tensor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from bench.processes import ROOT

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from naiad.core.tensors import Array

_PHOTO = "images/two_people.jpg"


@dataclass(frozen=True, slots=True)
class Published:
    """A file of the assets folder with its pre-processing: FP32 NCHW, `(pixel - mean) / deviation`.

    `stretch` fits a picture to the input's size regardless of its shape; without it the rest is black.
    """

    key: str
    title: str
    file: str
    input: str
    shape: tuple[int, int, int, int]
    picture: str
    batches: bool
    rgb: bool = True
    stretch: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def tensor(self, assets: Path) -> Array:
        """The picture as the model's input, FP32 of `shape`."""
        bgr = cv2.imread(str(assets / self.picture), cv2.IMREAD_COLOR)
        if bgr is None:
            raise InvalidArgumentError(f"--assets: '{assets / self.picture}' is not a picture")
        fitted = self._fitted(np.asarray(bgr, np.uint8))
        pixels = fitted[:, :, ::-1] if self.rgb else fitted
        mean, deviation = (np.asarray(values, np.float32) for values in (self.mean, self.deviation))
        scaled = (pixels.astype(np.float32) - mean) / deviation
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis], np.float32)

    def _fitted(self, bgr: Array) -> Array:
        height, width = self.shape[2:]
        if self.stretch:
            return np.asarray(cv2.resize(bgr, (width, height)))
        scale = min(height / bgr.shape[0], width / bgr.shape[1])
        size = round(bgr.shape[1] * scale), round(bgr.shape[0] * scale)
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(bgr, size)
        return canvas


PUBLISHED = (
    Published(
        key="ultraface",
        title="UltraFace RFB-320",
        file="models/ultraface_version-RFB-320.onnx",
        input="input",
        shape=(1, 3, 240, 320),
        picture=_PHOTO,
        batches=False,
        stretch=True,
        mean=(127.0, 127.0, 127.0),
        deviation=(128.0, 128.0, 128.0),
    ),
    Published(
        key="yunet",
        title="YuNet 320",
        file="models/yunet_n_dynamic.onnx",
        input="input",
        shape=(1, 3, 320, 320),
        picture=_PHOTO,
        batches=True,
        rgb=False,
    ),
    Published(
        key="mobilefacenet",
        title="MobileFaceNet",
        file="models/mobilefacenet_128_dynamic.onnx",
        input="input0",
        shape=(1, 3, 112, 112),
        picture="images/aligned/obama_a__0_obama.png",
        batches=True,
        stretch=True,
        mean=(123.675, 116.28, 103.53),
        deviation=(58.395, 57.12, 57.375),
    ),
)


def assets_folder(asked: Path | None) -> Path | None:
    """The folder of published models: the one asked for, NAIAD_ASSETS, or the one beside the checkout.

    Raises:
        InvalidArgumentError: a folder was named and has no such models.
    """
    named = asked or (Path(os.environ["NAIAD_ASSETS"]) if os.environ.get("NAIAD_ASSETS") else None)
    folder = named or ROOT.parent / "shared" / "assets"
    missing = [entry.file for entry in PUBLISHED if not (folder / entry.file).is_file()]
    if not missing:
        return folder
    if named:
        raise InvalidArgumentError(f"--assets: '{folder}' lacks '{missing[0]}'")
    return None
