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
"""What a client may leave unread of what it is told without asking for data, such as pings' answers."""


class Patience:
    """Counts frames that bring no call further: settings, pings, resets, windows, empty data, continuations.

    Data that was sent meanwhile, or a call that came, makes them worth it.
    """

    __slots__ = ("_outbox", "_tries")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._tries = 0

    def restored(self) -> None:
        """Something came that brings a call further."""
        self._tries = 0

    def tried(self) -> None:
        """A frame came that brings nothing by itself.

        Raises:
            ConnectionFault: there were too many in a row, or their answers are not taken.
        """
        if self._outbox.has_sent_data:
            self._outbox.has_sent_data = False
            self._tries = 0
        self._tries += 1
        if self._tries > MAX_IDLE_FRAMES:
            raise ConnectionFault(
                frames.ENHANCE_YOUR_CALM, f"over {MAX_IDLE_FRAMES} frames in a row that bring nothing"
            )
        if self._outbox.is_paused and self._outbox.unwritten_bytes > MAX_UNREAD_BYTES:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "answers to frames are not read")
