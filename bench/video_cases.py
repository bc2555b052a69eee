"""What the benchmark of video measures: a detector, and the JPEG frames that are sent to it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from naiad.core.errors import InvalidArgumentError
from naiad.demo.media import video_frames
from naiad.demo.repository import build_repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FRAMES = 60
"""Frames that a stream goes through, again and again."""

_QUALITY = 90
_YUNET = """max_batch_size: {batch}
dynamic_batching {{}}
parameters {{ key: "naiad.task" value {{ string_value: "detect" }} }}
parameters {{ key: "naiad.head" value {{ string_value: "yunet" }} }}
parameters {{ key: "naiad.input.color" value {{ string_value: "bgr" }} }}
parameters {{ key: "naiad.input.size" value {{ string_value: "{side}x{side}" }} }}
"""


@dataclass(frozen=True, slots=True)
class VideoCase:
    """A model of `repository` and a folder of `*.jpg`, in the order of their names; `rate` a second."""

    key: str
    title: str
    model: str
    repository: str
    frames: str
    rate: float

    def jpegs(self) -> list[bytes]:
        """The frames as files."""
        return [file.read_bytes() for file in sorted(Path(self.frames).glob("*.jpg"))]

    @property
    def onnx(self) -> Path:
        """The model's file."""
        versions = Path(self.repository, self.model).glob("*/model.onnx")
        return max(versions, key=lambda file: int(file.parent.name))


def build(folder: Path, assets: Path | None) -> list[VideoCase]:
    """Write the repository and the frames.

    Args:
        folder: an empty one.
        assets: a folder of published models and clips; without it the demo's detector alone is measured.
    """
    repository = folder / "repository"
    build_repository(repository)
    frames = {"demo": (_write(folder / "demo", video_frames(FRAMES)), 30.0)}
    models = {"face_detector": "MTCNN"}
    if assets is not None:
        for side in (320, 640):
            models[f"yunet_{side}"] = f"YuNet {side}"
            _add_yunet(repository / f"yunet_{side}", assets, side)
        for name, clip in (("640x360", "short_hamilton_clip.mp4"), ("1080p", "street_1080p.mp4")):
            frames[name] = _read_clip(folder / name, assets / "video" / clip)
    for unused in {entry.name for entry in repository.iterdir()} - set(models):
        shutil.rmtree(repository / unused)
    cases = [
        VideoCase(f"{model}/{name}", f"{title}, {name}", model, str(repository), str(path), rate)
        for model, title in models.items()
        for name, (path, rate) in frames.items()
        if (name == "demo") == (model == "face_detector")
    ]
    for measured in {case.onnx.parent for case in cases}:
        # What nobody measures would be loaded twice, which takes a second each for the demo's detector.
        for other in measured.parent.glob("*/model.onnx"):
            if other.parent != measured:
                shutil.rmtree(other.parent)
    return cases


def _add_yunet(folder: Path, assets: Path, side: int) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(assets / "models" / "yunet_n_dynamic.onnx", folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(_YUNET.format(batch=8, side=side), encoding="utf-8")


def _read_clip(folder: Path, clip: Path) -> tuple[Path, float]:
    """The first frames of a video file as JPEG files, and how many it has a second."""
    capture = cv2.VideoCapture(str(clip))
    if not capture.isOpened():
        raise InvalidArgumentError(f"--assets: '{clip}' is no video that OpenCV can read")
    return _write(folder, _encoded(capture)), capture.get(cv2.CAP_PROP_FPS)


def _encoded(capture: cv2.VideoCapture) -> Iterator[bytes]:
    for _ in range(FRAMES):
        there, picture = capture.read()
        if not there:
            return
        yield cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _write(folder: Path, frames: Iterable[bytes]) -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        (folder / f"{index:04}.jpg").write_bytes(frame)
    return folder
