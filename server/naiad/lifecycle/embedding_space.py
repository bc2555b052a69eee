"""Which vectors may be compared with which: the space of an embedder, a hash over all that makes its vectors.

Equal on every replica and after every restart. What is hashed: the weights (the model file's bytes and those
of the files that it names), what is done to a picture before it meets them (size, resize, colour, layout,
mean, scale, padding), the alignment with its template, and the output's name. Scaling to length 1 is none of
it: it is asked for by request and leaves directions, which are all that is compared, as they are. Nor is what
runs the graph: another execution provider rounds differently.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from naiad.config.vision_config import Alignment
from naiad.runtime.weights import DIGEST_BYTES
from naiad.vision.alignment import ARCFACE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.config.vision_config import InputConfig

SPACE_FORMAT = 1
"""Counted up when Naiad itself comes to prepare faces in a way that gives other vectors."""

UNVERIFIED = "unverified:"
"""What the space of a model begins with whose weights were not seen."""


def embedding_space(config: ModelConfig, version: int, weights: str) -> str:
    """The space of a version's vectors, 32 hexadecimal digits; empty for a model that is no embedder.

    Args:
        config: complete.
        version: its number, which counts only where the weights are unknown.
        weights: their digest; empty where they cannot be seen. The space is then made of the model's name,
            version and tensors, and begins with `UNVERIFIED`.
    """
    recipe = _recipe(config)
    if recipe is None:
        return ""
    if weights:
        return _digest(weights=weights, **recipe)
    tensors = [_tensors(config.inputs), _tensors(config.outputs)]
    return UNVERIFIED + _digest(model=config.name, version=version, tensors=tensors, **recipe)


def composed_weights(config: ModelConfig, weights: Iterable[str]) -> str:
    """The digest of what an ensemble computes with.

    Args:
        config: its own.
        weights: those of the versions that it is composed of, in the order of its steps.

    Returns:
        The digest; empty if one of the weights is.
    """
    assert config.ensemble is not None
    parts = list(weights)
    if not all(parts):
        return ""
    steps = [
        [step.model_name, step.model_version, dict(step.inputs), dict(step.outputs)]
        for step in config.ensemble.steps
    ]
    return _digest(steps=steps, weights=parts)


def _recipe(config: ModelConfig) -> dict[str, Any] | None:
    """What makes a face the model's input, and its output a vector; None for a model that is no embedder."""
    vision = config.vision
    if vision is None or vision.embed is None:
        return None
    aligns = vision.embed.alignment is Alignment.ARCFACE
    return {
        "format": SPACE_FORMAT,
        "input": _input(vision.input),
        "alignment": [vision.embed.alignment.value, ARCFACE if aligns else ()],
        "output": vision.embed.tensor,
    }


def _input(config: InputConfig) -> dict[str, Any]:
    return {
        "size": [config.width, config.height],
        "resize": config.resize.value,
        "pad": config.pad,
        "color": config.color.value,
        "layout": config.layout.value,
        "mean": [float(value) for value in config.mean],
        "scale": [float(value) for value in config.scale],
    }


def _tensors(tensors: Iterable[TensorConfig]) -> list[list[Any]]:
    return [[tensor.name, tensor.datatype.value, list(tensor.dims)] for tensor in tensors]


def _digest(**parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
