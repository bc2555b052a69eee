"""Embedders: the input of an aligned face and one vector; how it is normalised is mostly a guess. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.core.datatypes import DataType
from naiad.core.tensors import WILDCARD
from naiad.vision.alignment import ARCFACE_SIZE
from naiad.vision.recognise.evidence import Evidence
from naiad.vision.recognise.families import plain_pixels
from naiad.vision.recognise.proposal import Block, Certainty, GraphFacts

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig, TensorConfig

_LENGTHS = range(64, 1025)
"""Lengths that embeddings have."""
_IMAGES = ((3, ARCFACE_SIZE, ARCFACE_SIZE), (ARCFACE_SIZE, ARCFACE_SIZE, 3))
_NUMBERS = (DataType.FP32, DataType.FP16, DataType.UINT8)


class Range(NamedTuple):
    """Mean and scale that pixels are brought to a range with, and whose files want it."""

    mean: str
    scale: str
    source: str


_COMMON = Range("127.5", "0.00784314", "InsightFace's and most others'")
_IMAGENET = Range("123.675,116.28,103.53", "0.01712475,0.01750700,0.01742919", "foamliu/MobileFaceNet's")
_KNOWN = {("input0", "output0", 128): _IMAGENET}
"""By the names of input and output and the vector's length, as published."""


def embedder_block(config: ModelConfig, facts: GraphFacts) -> tuple[Evidence, Block] | None:
    """What an embedder's config could have, if the model is like one: an aligned face in, a vector out."""
    image, length = config.inputs[0], _vector_length(config)
    if length is None or _image_dims(image) not in _IMAGES or image.datatype not in _NUMBERS:
        return None
    side = ARCFACE_SIZE
    text = f"input {image.name} of an aligned face's {side}x{side}, and one vector of {length} numbers"
    parameters = {
        "naiad.task": "embed",
        "naiad.input.color": "rgb",
        "naiad.embed.alignment": "arcface",
        "naiad.embed.normalize": "true",
    }
    if plain_pixels(image, facts):
        notes = ["the graph takes plain pixels; it does not tell their colour: rgb is the common choice"]
    else:
        known = _KNOWN.get((image.name, config.outputs[0].name, length))
        chosen = known or _COMMON
        text += f", named as in {known.source} files" if known else ""
        parameters |= {"naiad.input.mean": chosen.mean, "naiad.input.scale": chosen.scale}
        notes = [_unsure(chosen, _COMMON if known else _IMAGENET)]
    notes.append("vectors are scaled to length 1: their product is the cosine")
    return Evidence(Certainty.LIKELY, text), Block(tuple(parameters.items()), tuple(notes))


def _unsure(chosen: Range, other: Range) -> str:
    return (
        f"the graph does not tell colour, mean and scale: these are those of {chosen.source} files; "
        f"{other.source} files want mean {other.mean} and scale {other.scale}"
    )


def _vector_length(config: ModelConfig) -> int | None:
    if len(config.outputs) != 1:
        return None
    dims = config.outputs[0].dims
    sizes = [size for size in dims if size not in {1, WILDCARD}]
    return sizes[0] if len(sizes) == 1 and len(dims) <= 2 and sizes[0] in _LENGTHS else None


def _image_dims(tensor: TensorConfig) -> tuple[int, ...]:
    is_batch_of_one = len(tensor.dims) == 4 and tensor.dims[0] in {1, WILDCARD}
    return tensor.dims[1:] if is_batch_of_one else tensor.dims
