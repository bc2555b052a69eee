"""How far two answers to one request agree, by the model's task: faces, vectors or plain tensors. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.vision.agreement.detections import agree_on_faces, face_signs
from naiad.vision.agreement.embeddings import RankWindow, agree_on_vectors, vector_signs
from naiad.vision.agreement.figures import (
    Agreement,
    AnswerSigns,
    DetectionAgreement,
    EmbeddingAgreement,
    TensorAgreement,
    agreement_from_dict,
    agreement_to_dict,
)
from naiad.vision.agreement.tensors import agree_on_tensors, tensor_signs
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Tensors

__all__ = [
    "Agreement",
    "AnswerSigns",
    "DetectionAgreement",
    "EmbeddingAgreement",
    "RankWindow",
    "TensorAgreement",
    "agree",
    "agreement_from_dict",
    "agreement_to_dict",
    "signs",
]


def agree(
    vision: Detector | Embedder | None,
    config: ModelConfig,
    baseline_outputs: Tensors,
    candidate_outputs: Tensors,
    inputs: Tensors,
    *,
    window: RankWindow | None = None,
    same_space: bool = True,
) -> Agreement:
    """How far the candidate's answer to a request agrees with the baseline's; raises nothing.

    Where the baseline's answer has not all that the task is read from (the caller asked for some outputs
    only), what it has is compared as plain tensors. What is wrong with the candidate's alone, so that it
    cannot be read or is not finite, is a disagreement of 1.

    Args:
        vision: what pictures for the model go through; None for plain tensors.
        config: of the model, complete.
        baseline_outputs: by name, of the full request shape.
        candidate_outputs: the same of the other version.
        inputs: of the request. Only their shapes are read.
        window: of an embedder, the pairs of earlier requests; without one, only the request's own rows are
            neighbours.
        same_space: of an embedder, whether both versions' vectors are meant to be alike. Vectors of different
            lengths never are.
    """
    found: Agreement | None = None
    if isinstance(vision, Detector):
        found = agree_on_faces(vision, config, baseline_outputs, candidate_outputs, inputs)
    elif isinstance(vision, Embedder):
        answers = (baseline_outputs, candidate_outputs)
        window = RankWindow() if window is None else window  # an empty one is false
        found = agree_on_vectors(vision, answers, window, same_space=same_space)
    return agree_on_tensors(config, baseline_outputs, candidate_outputs) if found is None else found


def signs(
    vision: Detector | Embedder | None, config: ModelConfig, outputs: Tensors, inputs: Tensors
) -> AnswerSigns:
    """What one answer alone shows; raises nothing.

    Args:
        vision: what pictures for the model go through; None for plain tensors.
        config: of the model, complete.
        outputs: by name, of the full request shape.
        inputs: of the request. Only their shapes are read.
    """
    if isinstance(vision, Detector):
        return face_signs(vision, config, outputs, inputs)
    if isinstance(vision, Embedder):
        return vector_signs(vision, config, outputs, inputs)
    return tensor_signs(config, outputs, inputs)
