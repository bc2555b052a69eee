"""What the `naiad.…` parameters of a vision model mean, once validated. Pure.

| key | values | default |
|---|---|---|
| naiad.task | detect, embed | required for the vision service |
| naiad.head | the name of a family of models (detect only) | required for detect |
| naiad.accepts | tensor, encoded: whole image files as BYTES, too | tensor |
| naiad.input.resize | letterbox, letterbox_center, stretch, crop, none | letterbox |
| naiad.input.pad | 0..255, the border's value (letterboxes and none) | 0 |
| naiad.input.size | WIDTHxHEIGHT | the input's own fixed width and height |
| naiad.input.color | bgr, rgb, gray | rgb |
| naiad.input.layout | nchw, nhwc | read off the input's dims |
| naiad.input.mean | one number or one a channel, subtracted from 0..255 | 0 |
| naiad.input.scale | one number, or one a channel, multiplied after the mean | 1 |
| naiad.input.reduced_decode | auto, off (detect only) | off |
| naiad.detect.score_threshold | 0..1 | 0.5 |
| naiad.detect.nms_iou | 0..1 | 0.45 |
| naiad.detect.max_faces | 1.. | 1000 |
| naiad.detect.coordinates | pixels (of the input), fractions (head boxes only) | pixels |
| naiad.embed.alignment | arcface, none | arcface |
| naiad.embed.normalize | true, false | false |
| naiad.embed.output | an output's name | the only output |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Task(Enum):
    """What a vision model does."""

    DETECT = "detect"
    EMBED = "embed"


class Resize(Enum):
    """How a picture is brought to the model's input size.

    Both letterboxes scale it to fit and fill the border, right and below or all around; `CROP` scales it to
    fill the input and leaves out what is over on both sides alike; `STRETCH` scales each side by itself.
    """

    LETTERBOX = "letterbox"
    LETTERBOX_CENTER = "letterbox_center"
    STRETCH = "stretch"
    CROP = "crop"
    NONE = "none"


class ColorOrder(Enum):
    """The channel order that the model wants."""

    BGR = "bgr"
    RGB = "rgb"
    GRAY = "gray"


class Layout(Enum):
    """Whether channels come before or after rows and columns."""

    NCHW = "nchw"
    NHWC = "nhwc"


class Coordinates(Enum):
    """What a graph that gives finished boxes counts them in."""

    PIXELS = "pixels"
    FRACTIONS = "fractions"


class Alignment(Enum):
    """The template that a face is warped onto before it is embedded."""

    ARCFACE = "arcface"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class InputConfig:
    """How a picture becomes the model's input tensor.

    `width` and `height` are None when the model takes any size (`resize` is then NONE). `mean` and `scale`
    have one entry a channel in the order of `color`: the tensor is `(pixel - mean) * scale`. `reduced_decode`
    lets a JPEG be decoded at a half, a quarter or an eighth of its size where that is enough for the input.
    `pad` is the pixel value around a picture that does not fill the input.
    """

    tensor: str
    resize: Resize
    width: int | None
    height: int | None
    color: ColorOrder
    layout: Layout
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    reduced_decode: bool = False
    pad: int = 0


@dataclass(frozen=True, slots=True)
class DetectConfig:
    """Which head reads the outputs, and its defaults."""

    head: str
    score_threshold: float
    nms_iou: float
    max_faces: int
    coordinates: Coordinates = Coordinates.PIXELS


@dataclass(frozen=True, slots=True)
class EmbedConfig:
    """How faces are aligned and whether vectors are L2-normalised; `tensor` is the output that holds them."""

    alignment: Alignment
    normalize: bool
    tensor: str


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The whole `naiad.` block of one model; exactly one of `detect` and `embed` is set.

    `accepts_encoded` says that Triton's own calls may bring whole image files in place of numbers.
    """

    task: Task
    input: InputConfig
    detect: DetectConfig | None = None
    embed: EmbedConfig | None = None
    accepts_encoded: bool = False
