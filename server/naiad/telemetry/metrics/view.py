"""What `/metrics` needs to know of the server, so that it knows nothing of the layers above. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from naiad.telemetry.statistics import VersionStatistics
    from naiad.telemetry.streams import ModelStreams


class EngineView(NamedTuple):
    """How far the build of a version's TensorRT engine is, and its seconds until now or until its end."""

    state: str
    seconds: float


ENGINE_STATES = ("waiting", "building", "verifying", "swapped", "failed", "cancelled")
"""What `EngineView.state` may be."""


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version that serves, at the moment of a scrape.

    `queued` requests wait, `busy` of its `instances` run. `tags` are the config's `metric_tags`. `gpus` are
    the devices of its instances, as CUDA numbers them; empty on the CPU. `triton_version` is what Triton's
    families call the version where that is another number: they say 1 of every ensemble. `engine` is None
    where no TensorRT engine is asked for.
    """

    model: str
    version: int
    statistics: VersionStatistics
    queued: int
    busy: int
    instances: int
    load_seconds: float
    tags: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[int, ...] = ()
    triton_version: int | None = None
    engine: EngineView | None = None


class VersionState(NamedTuple):
    """Whether a version that is or should be loaded answers; version None where a model has none."""

    model: str
    version: int | None
    ready: bool


class ModelState(NamedTuple):
    """A model's loads that failed, and whether the files in the repository are not what serves for that."""

    model: str
    load_failures: int
    is_change_refused: bool


class RoomView(NamedTuple):
    """How many frames of streams a version has at work, and how many it has room for."""

    model: str
    version: int
    at_work: int
    room: int


class StreamsView(NamedTuple):
    """The streams of one model."""

    model: str
    counted: ModelStreams


VERDICTS = ("collecting", "holding", "better", "roll_back", "promote")
"""What the guard of an experiment may say of a candidate."""


class ArmView(NamedTuple):
    """One version of an experiment: what it answered, and what answers that were looked into show.

    `share` is the part of the requests that it gets, 0 to 1. `outcomes` counts requests by how they ended.
    `latencies_s` is of answered ones, by the quantile's text; empty if there are none. The others are means,
    None where nothing is known or the model is none that has them.
    """

    version: int
    share: float
    outcomes: Mapping[str, int]
    answered: int
    latencies_s: Mapping[str, float]
    empty_ratio: float | None
    faces: float | None
    score: float | None
    norm: float | None


class ShadowView(NamedTuple):
    """How far a shadowed version agrees with the baseline: requests by what became of them, and means."""

    version: int
    outcomes: Mapping[str, int]
    missed_ratio: float | None
    extra_ratio: float | None
    cosine: float | None
    mismatch_ratio: float | None


class ExperimentView(NamedTuple):
    """The experiment of one model.

    `verdicts` has one of `VERDICTS` of each candidate that was judged, `decisions` how many were made by kind
    and by whom.
    """

    model: str
    arms: Iterable[ArmView]
    shadow: ShadowView | None
    verdicts: Mapping[int, str]
    decisions: Mapping[tuple[str, str], int]


class AsideView(NamedTuple):
    """The process aside: its CPU time in seconds, how often it was started, the jobs that it has not done."""

    cpu_s: float
    starts: int
    pending: int


class ServerView(Protocol):
    """The server as a scrape sees it. Called on the event loop's thread."""

    def versions(self) -> Iterable[VersionView]:
        """Every version that serves."""
        ...

    def states(self) -> Iterable[VersionState]:
        """Every version that serves or should."""
        ...

    def models(self) -> Iterable[ModelState]:
        """Every model that was asked for."""
        ...

    def streams(self) -> Iterable[StreamsView]:
        """Every model that a stream of frames was opened for."""
        ...

    def rooms(self) -> Iterable[RoomView]:
        """Every version that frames of streams were worked on by lately."""
        ...

    def experiments(self) -> Iterable[ExperimentView]:
        """Every experiment in force."""
        ...

    def aside(self) -> AsideView | None:
        """The process aside; None if there was no experiment yet."""
        ...
