"""Which requests are traced: every Nth, so many in all, or because their caller traces them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from naiad.telemetry.tracing.sinks import TraceGroup

if TYPE_CHECKING:
    from naiad.telemetry.tracing.settings import Changes, TraceSettings


@dataclass(slots=True)
class Sampler:
    """The settings in force for all models or for one, and how far sampling has got with them.

    `specified` are the fields that an update set; the others follow the global settings. `settings.count`
    counts down. An update puts a new sampler in its place; `retired` says that this one is no longer asked.
    `at_work` counts traces begun and not finished.
    """

    settings: TraceSettings
    specified: Changes = field(default_factory=dict)
    group: TraceGroup = field(init=False)
    at_work: int = 0
    retired: bool = False
    samples: bool = field(init=False)
    _seen: int = 0

    def __post_init__(self) -> None:
        self.group = TraceGroup(self.settings.log_frequency, limited=self.settings.count >= 0)
        self.samples = self.settings.samples

    def take(self, *, forced: bool) -> bool:
        """Whether to trace the request that has come; `forced`: its caller traces it already."""
        if not self.samples:
            return False
        settings = self.settings
        hit = False
        if settings.rate and settings.count:
            self._seen += 1
            hit = self._seen % settings.rate == 0
        if hit and settings.count > 0:
            self.settings = replace(settings, count=settings.count - 1)
            self.samples = self.settings.samples
        taken = hit or forced
        self.at_work += taken
        return taken

    @property
    def settled(self) -> bool:
        """Whether no further trace will come: what was collected is to be written."""
        return self.at_work == 0 and (self.retired or self.settings.count == 0)

    @property
    def indexed(self) -> bool:
        """Whether what is left goes into an indexed file rather than the trace file itself."""
        return self.settings.log_frequency != 0 or self.settings.count == 0

    def current(self) -> Changes:
        """The specified fields as they stand now: a specified count is what is left of it."""
        return {
            name: self.settings.count if name == "count" else value for name, value in self.specified.items()
        }
