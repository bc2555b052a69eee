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
