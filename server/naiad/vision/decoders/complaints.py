"""What the picture libraries say on stderr, brought to the caller whose picture they mean.

libjpeg and libpng write their warnings and errors to C's `stderr`. A server would print a line for each bad
upload and never say whose it was; worse, the line is the only sign of damage within a JPEG's scan data, which
is then filled with grey. OpenCV leaves no other way to hear it.

So C's `stderr` becomes a stream (`fopencookie`) that asks which thread writes: the lines of one that decodes
go to it, those of all others to file descriptor 2 as before. C++ streams, Python and crash reports of the C
library do not pass through it. The stream has no buffer and no lock of its own, so that a line never waits
for another thread's; it does take the interpreter's lock, which a decode does not hold. Where the C library
has no such call, lines stay where they were and nothing is heard.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_BYTES = 2000
"""Kept of what is said of one picture; a hostile file can cause a line for each of its chunks."""
_STDERR = 2
_UNBUFFERED = 2
_LOCKED_BY_CALLER = 2
_WRITE = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_INSTALLING = threading.Lock()


class _Functions(ctypes.Structure):
    """`cookie_io_functions_t`: read, write, seek, close."""

    _fields_ = (
        ("read", ctypes.c_void_p),
        ("write", _WRITE),
        ("seek", ctypes.c_void_p),
        ("close", ctypes.c_void_p),
    )


class _Stream:
    """The stream in the place of `stderr`; lives as long as the process."""

    def __init__(self) -> None:
        """Put the stream in place.

        Raises:
            AttributeError: the C library has no `fopencookie`.
            ValueError: it has no symbol `stderr`.
            OSError: the C library refused.
        """
        self._heard = threading.local()
        library = ctypes.CDLL(None)
        stderr = ctypes.c_void_p.in_dll(library, "stderr")
        library.fopencookie.restype = ctypes.c_void_p
        library.fopencookie.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Functions]
        self._functions = _Functions(None, _WRITE(self._write), None, None)  # kept: C calls into it
        stream = library.fopencookie(None, b"w", self._functions)
        if not stream:
            raise OSError("fopencookie gave no stream")
        library.setvbuf(ctypes.c_void_p(stream), None, _UNBUFFERED, ctypes.c_size_t(0))
        set_locking = library["__fsetlocking"]  # as an attribute it would get the class's name in front
        set_locking(ctypes.c_void_p(stream), _LOCKED_BY_CALLER)
        before, stderr.value = stderr.value, stream
        # No C library may call into an interpreter that has ended.
        atexit.register(setattr, stderr, "value", before)

    @contextmanager
    def listen(self) -> Iterator[bytearray]:
        """What this thread's libraries say until the block ends."""
        heard = self._heard.text = bytearray()
        try:
            yield heard
        finally:
            del self._heard.text

    def _write(self, _cookie: int | None, address: int, size: int) -> int:
        """Called by the C library, on the thread that writes."""
        text = ctypes.string_at(address, size)
        heard: bytearray | None = getattr(self._heard, "text", None)
        if heard is None:
            return os.write(_STDERR, text)
        heard += text[: _MAX_BYTES - len(heard)]
        return size


@cache
def _installed() -> _Stream | None:
    """The stream, put in place by whoever comes first; None where there can be none."""
    with _INSTALLING:
        return _installed_once()


@cache
def _installed_once() -> _Stream | None:
    # OpenCV's own log repeats, without the caller, what its results say.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return _Stream()
    except (AttributeError, ValueError, OSError):
        return None


@contextmanager
def complaints() -> Iterator[bytearray]:
    """Collect what libjpeg and libpng say on this thread; none of it reaches stderr.

    Yields:
        Grows while the block runs, to 2000 bytes at most; stays empty where nothing can be heard.
    """
    stream = _installed()
    if stream is None:
        yield bytearray()
        return
    with stream.listen() as heard:
        yield heard


def first_line(heard: bytearray) -> str:
    """The first complaint without its library's prefix; empty if there is none."""
    line = bytes(heard).partition(b"\n")[0].decode("ascii", "replace").strip()
    for prefix in ("libpng error: ", "libpng warning: ", "Corrupt JPEG data: "):
        line = line.removeprefix(prefix)
    return line
