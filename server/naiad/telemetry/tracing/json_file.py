"""Trace files in Triton's format: one JSON array a file, complete after every write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from naiad.telemetry.tracing.request import RequestTrace
    from naiad.telemetry.tracing.sinks import TraceGroup

MAX_HELD_BYTES = 4 * 2**20
"""What a group of traces may hold in memory before it is written early."""

_JSON = json.JSONEncoder(separators=(",", ":"))


class JsonTraceFiles:
    """The trace file, and `FILE.0`, `FILE.1`, … for groups of traces.

    A trace file that lies there from an earlier run is replaced by the first write, as Triton does.
    """

    def __init__(self, file: str) -> None:
        self._path = Path(file)
        self._end = 0
        self._next_index = 0
        _check(self._path)

    def parent(self, headers: Mapping[str, str]) -> object | None:  # noqa: ARG002  # these files know no spans
        """None: Triton's format has no place for a caller's span."""
        return None

    def write(self, trace: RequestTrace, group: TraceGroup) -> None:
        """Hold a trace; full groups and those too large to hold are written.

        Raises:
            OSError: the file cannot be written.
        """
        text = b",".join(_JSON.encode(row).encode() for row in rows(trace))
        group.rows.append(text)
        group.traces += 1
        group.size_bytes += len(text)
        if group.log_frequency and group.traces >= group.log_frequency:
            self.flush(group, indexed=True)
        elif group.size_bytes > MAX_HELD_BYTES:
            self._put(group, indexed=bool(group.log_frequency) or group.limited)

    def flush(self, group: TraceGroup, *, indexed: bool) -> None:
        """Write what the group holds, and end its indexed file.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            self._put(group, indexed=indexed)
        finally:
            group.traces, group.path, group.end = 0, None, 0

    def close(self) -> None:
        """Nothing is kept open between writes."""

    def _put(self, group: TraceGroup, *, indexed: bool) -> None:
        held, group.rows, group.size_bytes = group.rows, [], 0
        if not held:
            return
        text = b",".join(held)
        if not indexed and group.path is None:
            self._end = _append(self._path, self._end, text)
            return
        if group.path is None:
            group.path = self._path.with_name(f"{self._path.name}.{self._next_index}")
            self._next_index += 1
        group.end = _append(group.path, group.end, text)


def rows(trace: RequestTrace) -> Iterator[dict[str, Any]]:
    """A trace as Triton's files have it: who, then one row a timestamp and a tensor."""
    who: dict[str, Any] = {"id": trace.id, "model_name": trace.model, "model_version": trace.version}
    if trace.request_id:
        who["request_id"] = trace.request_id
    if trace.batch_size:
        who |= {"batch_size": trace.batch_size, "batch_reason": trace.batch_reason}
    if trace.error:
        who["error"] = trace.error
    yield who
    for name, ns in trace.timestamps:
        yield {"id": trace.id, "timestamps": [{"name": name, "ns": ns}]}
    for kept in trace.tensors:
        tensor: dict[str, Any] = {
            "name": kept.name,
            "data": kept.data(),
            "shape": ",".join(map(str, kept.shape)),
            "dtype": kept.datatype,
        }
        if kept.omitted:
            tensor["omitted"] = kept.omitted
        yield {"id": trace.id, "activity": kept.activity, "tensor": tensor}


def _append(path: Path, end: int, text: bytes) -> int:
    """Put rows into the array whose closing bracket is at `end` (0: begin anew); returns where it is now.

    A write that fails half-way leaves `end` as it was, so the next one goes over what it left.
    """
    if end and (not path.exists() or path.stat().st_size < end):
        end = 0  # moved away or cut: what comes is a file of its own
    with path.open("r+b" if end else "wb") as file:
        file.seek(end)
        file.write((b"," if end else b"[") + text + b"]")
        file.truncate()
        return file.tell() - 1


def _check(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        reason = f"there is no folder {folder}"
    elif path.is_dir():
        reason = "it is a folder"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        reason = "it may not be written"
    else:
        return
    raise InvalidArgumentError(f"--trace-config triton,file={path}: {reason}")
