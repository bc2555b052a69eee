"""The audit log: `audit.jsonl`, one JSON object a line, written and synced by a thread of its own.

At `MAX_LOG_BYTES` the file becomes `audit.jsonl.1`, in place of the one before. Each new file begins with the
records that its owner calls standing, so that nothing which is in force is forgotten with an old file.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

import structlog

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    Record = Mapping[str, Any]

log = structlog.get_logger(__name__)

LOG_FILENAME = "audit.jsonl"
OLD_FILENAME = "audit.jsonl.1"
MAX_LOG_BYTES = 10 * 2**20
MAX_LINE_BYTES = 64 * 2**10
"""The longest line that is read as one."""
MAX_WAITING = 1_000
"""Records that may wait for a slow disk; further ones are left out, aloud."""
FLAG = "--experiment-directory"


class AuditLog:
    """The log in one folder, which no other process writes to."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_LOG_BYTES) -> None:
        """Make the folder if it is not there, and see that the log can be written.

        Args:
            folder: where it is.
            max_bytes: of one file; two are kept.

        Raises:
            InvalidArgumentError: the folder cannot be made or written to; names it and the flag.
        """
        self._path = folder / LOG_FILENAME
        self._old = folder / OLD_FILENAME
        self._max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and not self._path.is_file():  # a pipe would be waited for without end
                raise InvalidArgumentError(f"{self._path} ({FLAG}) is no regular file")
            with self._path.open("ab"):
                pass
        except OSError as error:
            raise InvalidArgumentError(f"cannot write {self._path} ({FLAG}): {error.strerror}") from error
        self._waiting = BoundedSemaphore(MAX_WAITING)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="naiad-audit-log")
        self._is_closed = False

    def read(self) -> list[dict[str, Any]]:
        """All records, oldest first; lines that are torn or no JSON objects are skipped, aloud.

        Raises:
            InvalidArgumentError: a file cannot be read; names it and the flag.
        """
        return [*_read(self._old), *_read(self._path)]

    def append(self, record: Record, standing: Iterable[Record] = ()) -> None:
        """Have a record written soon. A failure is logged, never raised.

        Args:
            record: what `json.dumps` takes.
            standing: written before it if it is the first of a new file.
        """
        if self._is_closed or not self._waiting.acquire(blocking=False):
            why = "it is closed" if self._is_closed else f"{MAX_WAITING} wait for the disk"
            log.error(
                "decision is missing in the audit log", who="operator", path=str(self._path), reason=why
            )
            return
        self._writer.submit(self._write, _line(record), [_line(entry) for entry in standing])

    def close(self) -> None:
        """Wait until all is written, and end the thread."""
        self._is_closed = True
        self._writer.shutdown(wait=True)

    def _write(self, line: bytes, standing: list[bytes]) -> None:
        try:
            self._make_room(len(line))
            with self._path.open("ab+") as file:
                size = file.seek(0, os.SEEK_END)
                # A line that was torn by a power cut must not swallow this one.
                before = b"".join(standing) if size == 0 else _end_of_line(file, size)
                file.write(before + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.error(
                "cannot write the audit log", who="operator", path=str(self._path), reason=error.strerror
            )
        finally:
            self._waiting.release()

    def _make_room(self, needed: int) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size and size + needed > self._max_bytes:
            self._path.replace(self._old)


def _line(record: Record) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _end_of_line(file: Any, size: int) -> bytes:
    """What the file's last line lacks."""
    file.seek(size - 1)
    return b"" if file.read(1) == b"\n" else b"\n"


def _read(path: Path) -> Iterator[dict[str, Any]]:
    skipped = 0
    try:
        with path.open("rb") as file:
            for line in iter(partial(file.readline, MAX_LINE_BYTES), b""):
                record = _parse(line)
                if record is None:
                    skipped += 1
                else:
                    yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {path} ({FLAG}): {error.strerror}") from error
    if skipped:
        log.warning("skipped broken lines of the audit log", who="operator", path=str(path), lines=skipped)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
