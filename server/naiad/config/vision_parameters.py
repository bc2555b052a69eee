"""The `naiad.…` parameters of a config to a `VisionConfig`, checked against each other and the model."""

from __future__ import annotations

import difflib
import math
import re
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from naiad.config.message_view import RUNTIME_PREFIX
from naiad.config.runtime_keys import RUNTIME_KEYS
from naiad.config.vision_config import (
    Alignment,
    ColorOrder,
    Coordinates,
    DetectConfig,
    EmbedConfig,
    InputConfig,
    Layout,
    Resize,
    Task,
    VisionConfig,
)
from naiad.config.vision_input import check_color, check_image_dims, choose_size, read_layout
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig

KNOWN_HEADS = (
    "blazeface",
    "boxes",
    "centerface",
    "mogface",
    "mtcnn",
    "retinaface",
    "scrfd",
    "ultraface",
    "yolo",
    "yolov5_face",
    "yolov8_face",
    "yunet",
)
"""Names of the heads that turn raw outputs into faces."""

PREFIX = "naiad."
INPUT_KEYS = (
    "naiad.input.resize",
    "naiad.input.size",
    "naiad.input.color",
    "naiad.input.layout",
    "naiad.input.mean",
    "naiad.input.scale",
    "naiad.input.pad",
)
DETECT_KEYS = (
    "naiad.head",
    "naiad.detect.score_threshold",
    "naiad.detect.nms_iou",
    "naiad.detect.max_faces",
    "naiad.detect.coordinates",
    "naiad.input.reduced_decode",  # an embedder's crops need every pixel
)
EMBED_KEYS = ("naiad.embed.alignment", "naiad.embed.normalize", "naiad.embed.output")
ACCEPTS = "naiad.accepts"
ENCODED = "encoded"
KEYS = ("naiad.task", ACCEPTS, *INPUT_KEYS, *DETECT_KEYS, *EMBED_KEYS)
"""Every key that a vision model may have; any other one under `naiad.` is an error, save the runtime's own
(`RUNTIME_KEYS`) and what the server itself reports."""

MAX_SIDE = 16_384
MAX_FACES = 100_000
MAX_PIXEL = 255
OUTPUT_PREFIX = "naiad_"
"""What the outputs begin with that the server adds to those of a graph."""

Choice = TypeVar("Choice", bound=Enum)


def read_vision_config(config: ModelConfig, *, layout_hint: Layout | None = None) -> VisionConfig | None:
    """What the `naiad.…` parameters of a complete config mean; None where it has none.

    Args:
        config: its inputs and outputs are complete.
        layout_hint: the input's `format`, used where its dims leave the layout open.

    Raises:
        InvalidArgumentError: names the key, the bad value and what is allowed.
    """
    values = {
        key: value
        for key, value in config.parameters.items()
        if key.startswith(PREFIX) and not key.startswith(RUNTIME_PREFIX) and key not in RUNTIME_KEYS
    }
    if not values:
        return None
    _check_keys(values)
    if "naiad.task" not in values:
        raise InvalidArgumentError(
            f"naiad.task is missing beside {', '.join(sorted(values))}: expected {_names(Task)}"
        )
    task = _choice(values, "naiad.task", Task)
    _check_belongs(values, task)
    vision_input = _read_input(values, config, layout_hint)
    encoded = _accepts_encoded(values, config)
    if task is Task.DETECT:
        return VisionConfig(task, vision_input, detect=_read_detect(values), accepts_encoded=encoded)
    embed = _read_embed(values, config.outputs, vision_input)
    return VisionConfig(task, vision_input, embed=embed, accepts_encoded=encoded)


def _check_keys(values: Mapping[str, str]) -> None:
    for key in sorted(values):
        if key in KEYS:
            continue
        nearest = difflib.get_close_matches(key, (*KEYS, *RUNTIME_KEYS), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known keys are {', '.join(KEYS)}"
        raise InvalidArgumentError(f"unknown parameter {key}: {hint}")


def _check_belongs(values: Mapping[str, str], task: Task) -> None:
    for key in EMBED_KEYS if task is Task.DETECT else DETECT_KEYS:
        if key in values:
            raise InvalidArgumentError(f"{key} has no meaning when naiad.task is {task.value}: remove it")


def _accepts_encoded(values: Mapping[str, str], config: ModelConfig) -> bool:
    value = values.get(ACCEPTS, "tensor")
    if value not in {"tensor", ENCODED}:
        raise _bad(ACCEPTS, value, "tensor or encoded")
    if value == "tensor":
        return False
    if config.sequence_batching is not None:
        # Pictures are decoded side by side, and a sequence must be seen in its order.
        raise InvalidArgumentError(f"{ACCEPTS} is 'encoded' beside sequence_batching: remove one of the two")
    for output in config.outputs:
        if output.name.startswith(OUTPUT_PREFIX):
            raise InvalidArgumentError(
                f"{ACCEPTS} is 'encoded' and output '{output.name}' begins with '{OUTPUT_PREFIX}', as "
                "what is added for encoded images does: rename it"
            )
    return True


def _read_input(values: Mapping[str, str], config: ModelConfig, layout_hint: Layout | None) -> InputConfig:
    if len(config.inputs) != 1:
        names = ", ".join(tensor.name for tensor in config.inputs)
        raise InvalidArgumentError(
            f"naiad.task is for models of one input, the image; this one has {len(config.inputs)}: {names}"
        )
    tensor = config.inputs[0]
    dims = check_image_dims(tensor, batched=config.max_batch_size > 0)
    color = _choice(values, "naiad.input.color", ColorOrder, ColorOrder.RGB)
    layout = _choice(values, "naiad.input.layout", Layout) if "naiad.input.layout" in values else None
    layout = layout or read_layout(tensor, dims, layout_hint)
    channels = check_color(tensor, dims, layout, color, chosen="naiad.input.color" in values)
    resize = _choice(values, "naiad.input.resize", Resize) if "naiad.input.resize" in values else None
    resize, size = choose_size(tensor, dims, layout, resize, _size(values))
    return InputConfig(
        tensor=tensor.name,
        resize=resize,
        width=size[0] if size else None,
        height=size[1] if size else None,
        color=color,
        layout=layout,
        mean=_per_channel(values, "naiad.input.mean", channels, 0.0),
        scale=_per_channel(values, "naiad.input.scale", channels, 1.0),
        pad=_pad(values, resize),
        reduced_decode=_reduced_decode(values),
    )


def _read_detect(values: Mapping[str, str]) -> DetectConfig:
    head = values.get("naiad.head")
    if head not in KNOWN_HEADS:
        given = "is missing" if head is None else f"is '{head}'"
        raise InvalidArgumentError(f"naiad.head {given}: expected one of {', '.join(KNOWN_HEADS)}")
    return DetectConfig(
        head=head,
        score_threshold=_fraction(values, "naiad.detect.score_threshold", 0.5),
        nms_iou=_fraction(values, "naiad.detect.nms_iou", 0.45),
        max_faces=_max_faces(values),
        coordinates=_coordinates(values, head),
    )


def _coordinates(values: Mapping[str, str], head: str) -> Coordinates:
    key = "naiad.detect.coordinates"
    if key in values and head != "boxes":
        raise InvalidArgumentError(f"{key} has no meaning when naiad.head is {head}: remove it")
    return _choice(values, key, Coordinates, Coordinates.PIXELS)


def _read_embed(
    values: Mapping[str, str], outputs: Sequence[TensorConfig], vision_input: InputConfig
) -> EmbedConfig:
    alignment = _choice(values, "naiad.embed.alignment", Alignment, Alignment.ARCFACE)
    if alignment is Alignment.ARCFACE and vision_input.width is None:
        raise InvalidArgumentError(
            "naiad.embed.alignment 'arcface' warps faces to a fixed size: "
            "set naiad.input.size, or alignment none"
        )
    normalize = values.get("naiad.embed.normalize", "false")
    if normalize not in ("true", "false"):
        raise _bad("naiad.embed.normalize", normalize, "true or false")
    return EmbedConfig(alignment, normalize == "true", _embedding_output(values, outputs))


def _embedding_output(values: Mapping[str, str], outputs: Sequence[TensorConfig]) -> str:
    names = [tensor.name for tensor in outputs]
    name = values.get("naiad.embed.output", names[0] if len(names) == 1 else None)
    if name is None:
        raise InvalidArgumentError(
            f"naiad.embed.output is missing: the model has {len(names)} outputs, choose {', '.join(names)}"
        )
    if name not in names:
        raise _bad("naiad.embed.output", name, f"one of the model's outputs: {', '.join(names)}")
    return name


def _choice(values: Mapping[str, str], key: str, kind: type[Choice], default: Choice | None = None) -> Choice:
    value = values.get(key)
    if value is None and default is not None:
        return default
    try:
        return kind(value)
    except ValueError:
        raise _bad(key, value, _names(kind)) from None


def _size(values: Mapping[str, str]) -> tuple[int, int] | None:
    """`naiad.input.size` as (width, height)."""
    value = values.get("naiad.input.size")
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", value)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise _bad("naiad.input.size", value, f"WIDTHxHEIGHT such as 640x480, sides from 1 to {MAX_SIDE}")
    return size


def _reduced_decode(values: Mapping[str, str]) -> bool:
    value = values.get("naiad.input.reduced_decode", "off")
    if value not in {"auto", "off"}:
        raise _bad("naiad.input.reduced_decode", value, "auto or off")
    return value == "auto"


def _per_channel(values: Mapping[str, str], key: str, channels: int, default: float) -> tuple[float, ...]:
    """Numbers separated by commas or blanks; a single one holds for every channel."""
    value = values.get(key)
    numbers = [default] if value is None else [_number(part) for part in re.split(r"[,\s]+", value.strip())]
    unusable = any(not math.isfinite(number) for number in numbers)
    zero_scale = key == "naiad.input.scale" and 0.0 in numbers
    if unusable or zero_scale or len(numbers) not in (1, channels):
        count = "one number" if channels == 1 else f"one number, or {channels} separated by commas"
        raise _bad(key, value, f"{count}{', none of them 0' if zero_scale else ''}")
    return tuple(numbers * channels if len(numbers) == 1 else numbers)


def _fraction(values: Mapping[str, str], key: str, default: float) -> float:
    value = values.get(key)
    if value is None:
        return default
    number = _number(value)
    if not 0.0 <= number <= 1.0:
        raise _bad(key, value, "a number from 0 to 1")
    return number


def _max_faces(values: Mapping[str, str]) -> int:
    value = values.get("naiad.detect.max_faces", "1000")
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= MAX_FACES:
        raise _bad("naiad.detect.max_faces", value, f"a whole number from 1 to {MAX_FACES}")
    return int(value)


def _pad(values: Mapping[str, str], resize: Resize) -> int:
    if "naiad.input.pad" in values and resize in {Resize.STRETCH, Resize.CROP}:
        raise InvalidArgumentError(
            f"naiad.input.pad has no meaning when naiad.input.resize is {resize.value}: remove it"
        )
    value = values.get("naiad.input.pad", "0")
    if not re.fullmatch(r"[0-9]{1,3}", value) or int(value) > MAX_PIXEL:
        raise _bad("naiad.input.pad", value, f"a whole number from 0 to {MAX_PIXEL}")
    return int(value)


def _number(text: str) -> float:
    """The number, or NaN, which no range accepts."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _names(kind: type[Enum]) -> str:
    return " or ".join(str(member.value) for member in kind)


def _bad(key: str, value: str | None, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{key} is '{value}': expected {expected}")
