"""A loaded version and what its images go through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naiad.config.vision_config import Task
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.loaded import LoadedVersion

VisionModel = Detector | Embedder


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded version.

    `vision` is what its images go through if its config has a `naiad.task`, `labels` the names of the classes
    of each output that has a label file. `weights` is the digest of what it computes with, empty if that was
    not seen; `embedding_space` that of its vectors, empty if it is no embedder or an ensemble, whose models
    may change.
    """

    version: LoadedVersion
    vision: VisionModel | None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: str = ""
    embedding_space: str = ""


def vision_model(config: ModelConfig) -> VisionModel | None:
    """What images for a model go through, or None if its config declares no `naiad.task`.

    Raises:
        InvalidArgumentError: the parameters do not suit the model's inputs and outputs; names the key.
    """
    if config.vision is None:
        return None
    kind = Detector if config.vision.task is Task.DETECT else Embedder
    return kind(config.vision, config.inputs, config.outputs)
