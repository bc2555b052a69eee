"""How sure it is that outputs which a head can read are those of its family, and from what. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.core.tensors import WILDCARD
from naiad.vision.heads.grid import cell_count
from naiad.vision.recognise.proposal import Certainty, GraphFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.config.vision_config import VisionConfig

    Size = tuple[int, int]
    Rule = Callable[[Sequence[TensorConfig], Size | None, GraphFacts], Certainty | None]

_TOLD = frozenset({"yolo", "yolov8_face"})
"""Families whose exporter leaves its settings in the file."""
_ULTRAFACE_ANCHORS = {8: 3, 16: 2, 32: 2, 64: 3}
_COCO = frozenset({84, 85})
"""Numbers of a box with 80 classes, those of COCO, as most published files have."""
_WITH_LANDMARKS = frozenset({15, 16, 20})
_FEW = 4
"""Outputs that are told one by one."""
_ROWS = frozenset({5, 6, 15, 16})
"""Numbers of a finished row: a box and its score, perhaps five landmarks, perhaps a class."""
_MAX_ROWS = 2000


class Evidence(NamedTuple):
    """How sure, and what it was read from."""

    certainty: Certainty
    text: str


def judge(
    head: str, config: ModelConfig, vision: VisionConfig, names: Sequence[str], facts: GraphFacts
) -> Evidence | None:
    """What speaks for a family whose head can read the model's outputs; None if that says nothing.

    Args:
        head: the family.
        config: the model's.
        vision: what the family's block means for it.
        names: the outputs that the head would read.
        facts: what else is known of the graph.
    """
    outputs = {output.name: output for output in config.outputs}
    read = [outputs[name] for name in names]
    width, height = vision.input.width, vision.input.height
    size = None if width is None or height is None else (width, height)
    # A size that was proposed, because the graph's own is open, proves nothing.
    if WILDCARD in config.inputs[0].dims[-3:]:
        size = None
    certainty = _certainty(head, read, size, facts)
    return None if certainty is None else Evidence(certainty, _text(read, facts if head in _TOLD else None))


def _certainty(
    head: str, read: Sequence[TensorConfig], size: tuple[int, int] | None, facts: GraphFacts
) -> Certainty | None:
    rules: dict[str, Rule] = {
        "yunet": _by_names,
        "mtcnn": _by_names,
        "centerface": _by_names,
        "scrfd": _scrfd,
        "retinaface": _by_count,
        "blazeface": _by_count,
        "ultraface": _ultraface,
        "mogface": _mogface,
        "yolov5_face": _maps,
        "yolov8_face": _yolov8_face,
        "yolo": _yolo,
        "boxes": _boxes,
    }
    return rules[head](read, size, facts)


def _by_names(*_: object) -> Certainty:
    """Names that nothing else has together."""
    return Certainty.SURE


def _by_count(_: Sequence[TensorConfig], size: Size | None, __: GraphFacts) -> Certainty:
    """The head has seen that the rows are as many as an input of that size has priors."""
    return Certainty.SURE if size else Certainty.LIKELY


def _scrfd(read: Sequence[TensorConfig], _: Size | None, __: GraphFacts) -> Certainty:
    return Certainty.SURE if any(output.dims[-1] == 10 for output in read) else Certainty.LIKELY


def _ultraface(read: Sequence[TensorConfig], size: Size | None, _: GraphFacts) -> Certainty:
    rows = read[0].dims[-2]
    if size is None or rows == WILDCARD:
        return Certainty.LIKELY
    known = sum(cell_count(*size, [stride]) * each for stride, each in _ULTRAFACE_ANCHORS.items())
    return Certainty.SURE if rows == known else Certainty.POSSIBLE


def _mogface(_: Sequence[TensorConfig], size: Size | None, __: GraphFacts) -> Certainty:
    return Certainty.LIKELY if size else Certainty.POSSIBLE


def _maps(read: Sequence[TensorConfig], _: Size | None, __: GraphFacts) -> Certainty:
    """Three raw maps of as many channels are the family's own; one output of rows is not."""
    return Certainty.SURE if len(read) > 1 else Certainty.LIKELY


def _yolov8_face(read: Sequence[TensorConfig], size: Size | None, facts: GraphFacts) -> Certainty:
    is_told = facts.metadata.get("kpt_shape", "").startswith("[5,")
    return Certainty.SURE if is_told else _maps(read, size, facts)


def _yolo(read: Sequence[TensorConfig], _: Size | None, facts: GraphFacts) -> Certainty:
    sizes = set(read[0].dims[-2:])
    if facts.metadata.get("task") == "detect" or _COCO & sizes:
        return Certainty.SURE
    # A row or column of so many numbers is also that of a face with landmarks.
    return Certainty.POSSIBLE if _WITH_LANDMARKS & sizes else Certainty.LIKELY


def _boxes(read: Sequence[TensorConfig], _: Size | None, __: GraphFacts) -> Certainty | None:
    count, numbers = read[0].dims[-2:]
    return Certainty.POSSIBLE if numbers in _ROWS and 1 < count <= _MAX_ROWS else None


def _text(read: Sequence[TensorConfig], facts: GraphFacts | None) -> str:
    if len(read) > _FEW:
        sizes = ", ".join(str(size) for size in sorted({output.dims[-1] for output in read}))
        text = f"{len(read)} outputs {read[0].name} … {read[-1].name}, their last dimension {sizes}"
    else:
        text = "output" + "s" * (len(read) > 1) + " " + ", ".join(map(_output_text, read))
    task = facts.metadata.get("task") if facts else None
    return f"{text}; metadata task {task}" if task else text


def _output_text(output: TensorConfig) -> str:
    return f"{output.name} [{', '.join('any' if size == WILDCARD else str(size) for size in output.dims)}]"
