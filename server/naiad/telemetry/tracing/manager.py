"""Trace settings in force and the choice of requests. Used on the event loop's thread."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from naiad.core.clock import MonotonicClock
from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.telemetry.tracing.json_file import JsonTraceFiles
from naiad.telemetry.tracing.request import FrontEnd, RequestTrace
from naiad.telemetry.tracing.sampling import Sampler
from naiad.telemetry.tracing.settings import TraceLevel, TraceMode, TraceSettings, parse_changes
from naiad.telemetry.tracing.writer import TraceWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.core.clock import Clock
    from naiad.telemetry.tracing.settings import Changes
    from naiad.telemetry.tracing.sinks import TraceSink

log = structlog.get_logger(__name__)


class TraceManager:
    """Says which requests are traced, and hands finished traces to the writer's thread, which it owns.

    `active` is False while no request could be traced: a front end may read it to save itself the headers.
    Settings can be changed while the server runs, for all models (the name is "") or for one, which then
    follows the global settings in everything that was not set for itself.
    """

    def __init__(
        self,
        settings: TraceSettings | None = None,
        *,
        sink: TraceSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take the settings of the command line.

        Args:
            settings: the defaults unless given: off.
            sink: where traces go; by default what the settings' mode says.
            clock: the monotonic clock unless given.

        Raises:
            InvalidArgumentError: nothing could be traced with these settings, or their file not be written.
            UnsupportedError: OpenTelemetry's packages are not installed.
        """
        self._defaults = settings or TraceSettings()
        if self._defaults.level is not TraceLevel.OFF and self._defaults.problem:
            raise InvalidArgumentError(
                f"--trace-config level=…: nothing can be traced, {self._defaults.problem}"
                + ("" if self._defaults.file else " (--trace-config triton,file=FILE)")
            )
        if self._defaults.unused:
            log.warning("trace settings of another mode", unused=self._defaults.unused, who="operator")
        self._sink = sink or _sink(self._defaults)
        self._clock = clock or MonotonicClock()
        self._writer = TraceWriter()
        self._ids = itertools.count(1)
        self._global = Sampler(self._defaults)
        self._models: dict[str, Sampler] = {}
        self.active = False
        self._refresh()

    def begin(
        self,
        model: str,
        headers: Mapping[str, str],
        *,
        front_end: FrontEnd | None = None,
        received_ns: int | None = None,
    ) -> RequestTrace | None:
        """A trace for the request that has come, if it is to be traced; `finish` it whatever happens.

        Args:
            model: the model it is for.
            headers: the call's, by lower-case name: a W3C `traceparent` among them is continued by
                OpenTelemetry, whatever rate and count say.
            front_end: whose timestamps to keep.
            received_ns: when the request began to come, on the monotonic clock; now unless given.
        """
        if not self.active:
            return None
        return self._sample(model, headers, front_end, received_ns)

    def get(self, model: str = "") -> dict[str, tuple[str, ...]]:
        """The settings in force for the model, or for all ("")."""
        return self._models.get(model, self._global).settings.values()

    def update(self, model: str, values: Mapping[str, Sequence[str]]) -> None:
        """Change settings; all of them or, with an error, none.

        Args:
            model: whose; "" for all models.
            values: each setting's values as texts; an empty list goes back to the global value, and for ""
                to the command line's.

        Raises:
            UnsupportedError: the trace file was to be changed.
            InvalidArgumentError: a value is wrong, or nothing could be traced with the settings.
        """
        changes, ignored = parse_changes(values)
        if ignored:
            log.warning("trace settings that cannot be changed", ignored=ignored, model=model, who="caller")
        if model:
            self._replace({model: self._changed(self._models.get(model), changes, self._global.settings)})
            return
        everyone = self._changed(self._global, changes, self._defaults)
        models = {
            name: self._changed(sampler, {}, everyone.settings) for name, sampler in self._models.items()
        }
        self._global, old = everyone, self._global
        self._retire(old)
        self._replace(models)

    def close(self) -> None:
        """Write what was collected and join the writer's thread."""
        self.active = False
        for sampler in (self._global, *self._models.values()):
            sampler.at_work = 0  # what has not finished by now never will
            self._retire(sampler)
        self._models.clear()
        if self._sink is not None:
            self._writer.submit(self._sink.close)
        self._writer.close()

    def _sample(
        self, model: str, headers: Mapping[str, str], front_end: FrontEnd | None, received_ns: int | None
    ) -> RequestTrace | None:
        assert self._sink is not None, "active without a sink"
        sampler = self._models.get(model, self._global)
        parent = self._sink.parent(headers) if headers else None
        if not sampler.take(forced=parent is not None):
            return None
        if sampler.settings.count == 0:
            self._refresh()
        return RequestTrace(
            next(self._ids),
            model,
            sampler.settings.level,
            clock=self._clock,
            done=partial(self._finished, sampler),
            front_end=front_end,
            received_ns=received_ns,
            parent=parent,
        )

    def _finished(self, sampler: Sampler, trace: RequestTrace) -> None:
        assert self._sink is not None, "a trace without a sink"
        sampler.at_work = max(0, sampler.at_work - 1)
        self._writer.submit(partial(self._sink.write, trace, sampler.group), droppable=True)
        self._settle(sampler)

    def _changed(self, sampler: Sampler | None, changes: Changes, fallback: TraceSettings) -> Sampler:
        specified = (sampler.current() if sampler else {}) | changes
        specified = {name: value for name, value in specified.items() if value is not None}
        settings = replace(fallback, **specified)  # type: ignore[arg-type]  # field names with their own types
        if settings.level is not TraceLevel.OFF and settings.problem:
            raise InvalidArgumentError(f"Attempting to set invalid trace setting :{settings.problem}")
        return Sampler(settings, specified)

    def _replace(self, models: Mapping[str, Sampler]) -> None:
        for name, sampler in models.items():
            old = self._models.pop(name, None)
            if old is not None:
                self._retire(old)
            if sampler.specified:
                self._models[name] = sampler
        self._refresh()

    def _retire(self, sampler: Sampler) -> None:
        sampler.retired = True
        self._settle(sampler)

    def _settle(self, sampler: Sampler) -> None:
        if sampler.settled and self._sink is not None:
            self._writer.submit(partial(self._sink.flush, sampler.group, indexed=sampler.indexed))

    def _refresh(self) -> None:
        self.active = any(sampler.samples for sampler in (self._global, *self._models.values()))


def _sink(settings: TraceSettings) -> TraceSink | None:
    if settings.mode is TraceMode.TRITON:
        return JsonTraceFiles(settings.file) if settings.file else None
    try:
        # Imported here: the packages belong to an extra.
        from naiad.telemetry.tracing.otel import SpanSink  # noqa: PLC0415
    except ImportError as error:
        raise UnsupportedError(
            f"--trace-config mode=opentelemetry needs an extra: pip install 'naiad[otel]' ({error})"
        ) from None
    return SpanSink(settings.options)
