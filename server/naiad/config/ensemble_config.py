"""The `ensemble_scheduling` block in domain terms: steps, and the tensors that join them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.messages import Message

ENSEMBLE_PLATFORM = "ensemble"

LATEST_VERSION = -1
"""As a step's `model_version`: the highest that is ready. A step that names none asks for version 0."""

MAX_STEPS = 1_000
"""Steps that an ensemble may have, those of the ensembles in it included."""


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """One run of a composing model.

    `inputs` and `outputs` map the model's own tensor names to the ensemble's.
    """

    model_name: str
    model_version: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EnsembleScheduling:
    """The steps in the config's order, which is not the order in which they run.

    `max_inflight_requests` is how many requests may be at work in each step at once; 0 for no limit.
    """

    steps: tuple[EnsembleStep, ...]
    max_inflight_requests: int = 0

    @property
    def model_names(self) -> tuple[str, ...]:
        """The composing models, each once, sorted."""
        return tuple(sorted({step.model_name for step in self.steps}))


def ensemble_scheduling(message: Message) -> EnsembleScheduling | None:
    """The block of a validated config, or None if the model is no ensemble."""
    if not message.HasField("ensemble_scheduling"):
        return None
    block = message.ensemble_scheduling
    return EnsembleScheduling(
        steps=tuple(
            EnsembleStep(
                model_name=step.model_name,
                model_version=step.model_version,
                inputs=dict(sorted(step.input_map.items())),
                outputs=dict(sorted(step.output_map.items())),
            )
            for step in block.step
        ),
        max_inflight_requests=block.max_inflight_requests,
    )
