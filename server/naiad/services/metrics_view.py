"""What `/metrics` shows, read from the model manager, the streams of frames and the experiments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from naiad.lifecycle.experiments.decisions import GUARD
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome, known
from naiad.lifecycle.states import ReadyState
from naiad.telemetry.metrics import (
    ArmView,
    AsideView,
    EngineView,
    ExperimentView,
    ModelState,
    RoomView,
    ShadowView,
    StreamsView,
    VersionState,
    VersionView,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from naiad.dataplane.frames.rooms import FrameRooms
    from naiad.lifecycle.experiments.decisions import Decisions, Kind
    from naiad.lifecycle.experiments.director import Experiments
    from naiad.lifecycle.experiments.evidence import ShadowEvidence
    from naiad.lifecycle.experiments.experiment import Experiment
    from naiad.lifecycle.manager import ModelManager
    from naiad.lifecycle.version import ServingVersion

PERSON = "person"
"""Who decides where the guard does not: whatever name they gave."""

_OUTCOMES = {
    Outcome.OK: "success",
    Outcome.ERROR: "failed",
    Outcome.CALLERS_FAULT: "callers_fault",
    Outcome.CANCELLED: "cancelled",
}
_DECISIONS: tuple[tuple[Kind, str], ...] = (
    ("roll_back", GUARD),
    ("promote", GUARD),
    ("roll_back", PERSON),
    ("promote", PERSON),
    ("resume", PERSON),
)
_MOST_LOG = 700.0
"""Beyond that a norm is no float any more."""

_QUANTILES: Mapping[str, float] = {"0.5": 0.5, "0.9": 0.9, "0.99": 0.99}


class ManagerView:
    """The model manager as `/metrics` sees it."""

    def __init__(
        self,
        manager: ModelManager,
        rooms: FrameRooms | None = None,
        experiments: Experiments | None = None,
    ) -> None:
        """Show a manager's models.

        Args:
            manager: it.
            rooms: of the streams of frames; None shows no streams.
            experiments: None shows none.
        """
        self._manager = manager
        self._rooms = rooms
        self._experiments = experiments

    def versions(self) -> Iterator[VersionView]:
        """Every version that serves, by name and number."""
        for name in self._manager.model_names():
            ready = self._manager.ready_versions(name)
            # Two samples of one name and labels would spoil the whole scrape.
            yield from (_view(serving, is_only=len(ready) == 1) for serving in ready)

    def states(self) -> Iterator[VersionState]:
        """Every version that serves or should; a model that could not be read has one without a number."""
        for model in self._manager.models():
            if not model.versions:
                yield VersionState(model.name, None, ready=False)
            for number, entry in sorted(model.versions.items()):
                # What was unloaded on purpose is not missing.
                if not entry.is_out_on_purpose:
                    yield VersionState(model.name, number, ready=entry.state is ReadyState.READY)

    def models(self) -> Iterator[ModelState]:
        """Every model that was asked for."""
        for model in self._manager.models():
            yield ModelState(model.name, model.load_failures, model.refused_change is not None)

    def streams(self) -> Iterator[StreamsView]:
        """Every model that a stream of frames was opened for, by name."""
        if self._rooms is not None:
            for model, counted in sorted(self._rooms.statistics.models.items()):
                yield StreamsView(model, counted)

    def rooms(self) -> Iterator[RoomView]:
        """Every version that frames of streams were worked on by lately, by name and number."""
        if self._rooms is not None:
            for key, share in sorted(self._rooms):
                yield RoomView(key.name, key.version, share.at_work, share.room)

    def experiments(self) -> Iterator[ExperimentView]:
        """Every experiment in force, by its model's name."""
        if self._experiments is not None:
            for each in self._experiments:
                yield _experiment_view(each, self._experiments.decisions)

    def aside(self) -> AsideView | None:
        """The process aside; None if there was no experiment yet."""
        figures = None if self._experiments is None else self._experiments.aside_figures
        return None if figures is None else AsideView(figures.cpu_s, figures.starts, figures.pending)


def _view(serving: ServingVersion, *, is_only: bool) -> VersionView:
    message = serving.config.message
    return VersionView(
        model=serving.key.name,
        version=serving.key.version,
        statistics=serving.statistics,
        queued=serving.scheduler.queued,
        busy=min(serving.scheduler.busy, serving.instance_count),  # a GPU's instance has several lanes
        instances=serving.instance_count,
        load_seconds=serving.load_seconds,
        engine=_engine_view(serving),
        tags=dict(message.metric_tags) if message is not None else {},
        gpus=tuple(gpu for group in serving.config.instance_groups for gpu in group.gpus),
        triton_version=1 if is_only and serving.config.ensemble is not None else None,
    )


def _engine_view(serving: ServingVersion) -> EngineView | None:
    status = serving.engine_build
    return None if status is None else EngineView(status.state.value, status.seconds)


def _experiment_view(experiment: Experiment, decisions: Decisions) -> ExperimentView:
    shadow, config = None, experiment.config
    if config.shadow is not None and experiment.shadow is not None:
        shadow = _shadow_view(config.shadow.version, experiment.shadow)
    model = experiment.model
    return ExperimentView(
        model=model,
        arms=[_arm_view(experiment, version) for version in config.versions],
        shadow=shadow,
        verdicts={version: verdict.kind for version, verdict in sorted(experiment.verdicts.items())},
        decisions={(kind, by): decisions.count(model, kind, by_guard=by == GUARD) for kind, by in _DECISIONS},
    )


def _arm_view(experiment: Experiment, version: int) -> ArmView:
    evidence = experiment.evidence.get(version) or ArmEvidence()  # none of what was never ready
    empty, looked_for_faces = evidence.empties
    answered = evidence.outcomes[Outcome.OK]
    seconds = evidence.latency.quantiles(list(_QUANTILES.values())) if answered else ()
    return ArmView(
        version=version,
        share=experiment.share_of(version),
        outcomes={name: evidence.outcomes[outcome] for outcome, name in _OUTCOMES.items()},
        answered=answered,
        latencies_s=dict(zip(_QUANTILES, seconds, strict=False)),
        empty_ratio=empty / looked_for_faces if looked_for_faces else None,
        faces=known(evidence.faces.mean),
        score=known(evidence.top_score.mean),
        norm=known(math.exp(min(evidence.log_norm.mean, _MOST_LOG))),
    )


def _shadow_view(version: int, evidence: ShadowEvidence) -> ShadowView:
    return ShadowView(
        version=version,
        outcomes={
            "compared": evidence.compared,
            "failed": evidence.failures,
            "skipped": evidence.skipped,
        },
        missed_ratio=known(evidence.missed.mean),
        extra_ratio=known(evidence.extra.mean),
        cosine=known(evidence.cosine.mean),
        mismatch_ratio=known(evidence.mismatched.mean),
    )
