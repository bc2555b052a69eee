"""Counters of the vision service's streams, by model. They belong to the event loop's thread."""

from __future__ import annotations

from dataclasses import dataclass, field

from naiad.telemetry.statistics import LATENCY_BOUNDS_NS, LatencyHistogram


def _ages() -> LatencyHistogram:
    return LatencyHistogram(LATENCY_BOUNDS_NS)


def _no_drops() -> dict[str, int]:
    return {"superseded": 0, "too_old": 0}


@dataclass(slots=True)
class ModelStreams:
    """The streams of one model: how many are open, and what became of their frames.

    `dropped` is by reason; `abandoned` had no result when their stream ended, because its client left or it
    broke. `ages` are those of answered frames, from their arrival to their result.
    """

    open: int = 0
    answered: int = 0
    failed: int = 0
    abandoned: int = 0
    dropped: dict[str, int] = field(default_factory=_no_drops)
    ages: LatencyHistogram = field(default_factory=_ages)


class StreamStatistics:
    """The streams of all models, by the name of the model whose room their frames take."""

    def __init__(self) -> None:
        self.models: dict[str, ModelStreams] = {}

    def of(self, model: str) -> ModelStreams:
        """The counters of a model."""
        known = self.models.get(model)
        if known is None:
            known = self.models[model] = ModelStreams()
        return known
