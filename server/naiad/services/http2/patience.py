"""How long a client may send frames that bring nothing: floods of them cost more than they take to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from naiad.services.http2 import frames
from naiad.services.http2.faults import ConnectionFault

if TYPE_CHECKING:
    from naiad.services.http2.outbox import Outbox

MAX_IDLE_FRAMES: Final = 10_000
"""Frames in a row that bring nothing before a client is thrown out."""

MAX_UNREAD_BYTES: Final = 2**20
"""What a client may add to what it leaves unread, without messages: pings' answers, calls' refusals."""


class Patience:
    """Counts frames that bring no call further: settings, pings, resets, windows, empty data, continuations.

    Data that was sent meanwhile, or a call that came, makes them worth it.
    """

    __slots__ = ("_data_seen", "_outbox", "_tries")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._data_seen = 0
        self._tries = 0

    def restored(self) -> None:
        """Something came that brings a call further.

        Raises:
            ConnectionFault: what the client is told is not taken: calls may be refused, too.
        """
        self._tries = 0
        self._check_read()

    def tried(self) -> None:
        """A frame came that brings nothing by itself.

        Raises:
            ConnectionFault: there were too many in a row, or their answers are not taken.
        """
        if self._data_seen != self._outbox.data_sent:
            self._data_seen = self._outbox.data_sent
            self._tries = 0
        self._tries += 1
        if self._tries > MAX_IDLE_FRAMES:
            raise ConnectionFault(
                frames.ENHANCE_YOUR_CALM, f"over {MAX_IDLE_FRAMES} frames in a row that bring nothing"
            )
        self._check_read()

    def _check_read(self) -> None:
        # Messages are no part of it: a client may take its time with a large one.
        if self._outbox.unread_bytes > MAX_UNREAD_BYTES:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "answers to frames are not read")
