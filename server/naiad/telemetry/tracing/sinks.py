"""Where finished traces go, as the manager and the writer see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from naiad.telemetry.tracing.request import RequestTrace


@dataclass(slots=True)
class TraceGroup:
    """Traces that one set of settings collected, to be written together. Belongs to the writer's thread.

    `log_frequency` traces make one indexed file; `limited` says that their number is. `path` and `end` are of
    the indexed file that was begun because the traces became too many to hold.
    """

    log_frequency: int
    limited: bool
    rows: list[bytes] = field(default_factory=list)
    traces: int = 0
    size_bytes: int = 0
    path: Path | None = None
    end: int = 0


class TraceSink(Protocol):
    """Writes traces. `parent` is called on the loop's thread, everything else on the writer's."""

    def parent(self, headers: Mapping[str, str]) -> object | None:
        """The caller's own span, if the headers name one and this sink can continue it."""
        ...

    def write(self, trace: RequestTrace, group: TraceGroup) -> None:
        """Take one finished trace."""
        ...

    def flush(self, group: TraceGroup, *, indexed: bool) -> None:
        """Write what the group holds, to an indexed file or to the trace file itself."""
        ...

    def close(self) -> None:
        """Write what is left and let go of files and connections."""
        ...
