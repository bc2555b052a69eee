"""Header blocks of requests to heads of calls: HPACK, bounded. The blocks of answers are made in `answers`.

A client that does one thing sends the same block for each call: references into the table that the two ends
share. Such a block is decoded once, and looked up until the table changes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import grpc
from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from naiad.services.http2 import frames
from naiad.services.http2.answers import (
    INITIAL,
    OK_TRAILERS,
    http_refusal_block,
    initial_block,
    trailers_block,
    trailers_only_block,
)
from naiad.services.http2.faults import ConnectionFault
from naiad.services.http2.heads import CallHead, MalformedHeadError, RefusedHeadError, call_head, check_field
from naiad.services.http2.metadata import ENTRY_BYTES, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    Fields = Sequence[tuple[bytes, bytes]]

__all__ = [
    "INITIAL",
    "OK_TRAILERS",
    "CallHead",
    "CompressionError",
    "HeaderReader",
    "MalformedHeadError",
    "RefusedHeadError",
    "http_refusal_block",
    "initial_block",
    "trailers_block",
    "trailers_only_block",
]

TABLE_BYTES: Final = 4_096
"""The size of the table that a client may fill: HTTP/2's default, of which nothing else is announced."""

MAX_KNOWN: Final = 64
"""Blocks that a connection knows at most."""

MAX_KNOWN_BYTES: Final = 1_024
"""The longest block that is kept."""

MAX_KNOWN_LIST_BYTES: Final = 4_096
"""The longest list that is kept: a short block may stand for a long one."""

HARD_LIMIT: Final = 4
"""A list so many times over the limit is not decoded to its end, and its connection ends."""

# More changes of the table's size than anyone needs: two would do, says RFC 7541, section 4.2.
_resizes_often = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){9}").match


class CompressionError(ConnectionFault):
    """What the two ends know of each other's headers is lost, so their connection must end."""


class _Table(HeaderTable):
    """A table that forgets what is `known` of blocks whenever what they refer to changes."""

    def __init__(self, known: dict[bytes, CallHead]) -> None:
        super().__init__()
        self._known = known
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changed()
        super().add(name, value)

    def changed(self) -> None:
        self.changes += 1
        self._known.clear()


class HeaderReader:
    """Reads the header blocks of one connection, every one of them and in their order."""

    __slots__ = ("_decoder", "_known", "_max_block_bytes", "_max_list_bytes", "_table")

    def __init__(self, *, max_block_bytes: int, max_list_bytes: int) -> None:
        self._max_block_bytes = max_block_bytes
        self._max_list_bytes = max_list_bytes
        self._known: dict[bytes, CallHead] = {}
        self._table = _Table(self._known)
        self._decoder = Decoder(max_header_list_size=HARD_LIMIT * max_list_bytes)
        self._decoder.header_table = self._table
        self._decoder.max_allowed_table_size = TABLE_BYTES

    def read(self, block: bytes) -> CallHead:
        """The head of a call. Whatever is wrong with it, the next block can be read, but for the first error.

        Raises:
            CompressionError: the block cannot be decoded, or is far over a limit; the connection must end.
            MalformedHeadError: HTTP/2 does not allow such a request.
            RefusedHeadError: it is no call of gRPC, its metadata cannot be read or its list is too long.
        """
        return self._known.get(block) or self._learn(block)

    def read_trailers(self, block: bytes) -> None:
        """What comes behind a request's messages, of which gRPC makes no use.

        Raises:
            CompressionError: as `read`.
            MalformedHeadError: HTTP/2 does not allow such trailers.
        """
        for name, value in self._decode(block):
            if name.startswith(b":"):
                raise MalformedHeadError(f"pseudo header {text(name[:64])!r} in trailers")
            check_field(name, value)

    def _learn(self, block: bytes) -> CallHead:
        changes = self._table.changes
        fields = self._decode(block)
        size = sum([len(name) + len(value) + ENTRY_BYTES for name, value in fields])
        if size > self._max_list_bytes:
            raise RefusedHeadError(
                200,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"received metadata size exceeds the limit ({size} vs. {self._max_list_bytes} bytes)",
            )
        head = call_head(fields)
        if self._table.changes == changes and len(block) <= MAX_KNOWN_BYTES and size <= MAX_KNOWN_LIST_BYTES:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[block] = head
        return head

    def _decode(self, block: bytes) -> Fields:
        if len(block) > self._max_block_bytes:
            raise CompressionError(
                frames.ENHANCE_YOUR_CALM,
                f"a header block of {len(block)} bytes, and at most {self._max_block_bytes} are taken",
            )
        # A change of the table's size, which drops entries, stands at a block's begin or nowhere.
        if block and block[0] & 0xE0 == 0x20:
            self._table.changed()
            if _resizes_often(block):
                reason = "a header block begins with more than 8 changes of the table's size"
                raise CompressionError(frames.ENHANCE_YOUR_CALM, reason)
        try:
            return list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            limit = HARD_LIMIT * self._max_list_bytes
            reason = f"a header list of more than {limit} bytes"
            raise CompressionError(frames.ENHANCE_YOUR_CALM, reason) from error
        except HPACKError as error:
            reason = f"a header block cannot be decoded: {str(error)[:200]}"
            raise CompressionError(frames.COMPRESSION_ERROR, reason) from error
