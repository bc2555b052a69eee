"""gRPC's length-prefixed messages out of DATA's bytes and into them; bounded before anything is allocated.

A message is one byte, 1 if it is compressed, four of length, big-endian, and its bytes.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import grpc
import numpy as np

from naiad.services.grpc_settings import CompressionLevel
from naiad.services.http2.faults import CallFault

if TYPE_CHECKING:
    from collections.abc import Collection

SUPPORTED: Final = ("identity", "deflate", "gzip")
"""The encodings that messages may come and go in."""

ACCEPT_ENCODING: Final = "identity, deflate, gzip"
"""What each answer says in grpc-accept-encoding, as gRPC's core writes it."""

PREFIX_BYTES: Final = 5

LARGE_BYTES: Final = 65_536
"""From this size on, a message is a view of memory of its own, into which it was received."""

FIRST_BYTES: Final = 2 * 2**20
"""The most memory that a mere length gets; more follows as bytes do."""

Message: TypeAlias = bytes | memoryview
"""Bytes, or from `LARGE_BYTES` on a read-only view of uint8; whoever holds it holds its memory."""

_PREFIX: Final = Struct(">BI")
_unpack = _PREFIX.unpack_from
_NO_LENGTH: Final = -1

_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}  # "deflate" is zlib's format, never a bare stream
# Tensors compress little, and the event loop waits: zlib's own level, 6, takes up to twice the time.
_LEVEL: Final = 1


class Packed(NamedTuple):
    """A compressed message as it came: it is inflated off the event loop, which a bomb would hold up."""

    data: Message
    encoding: str
    max_bytes: int

    def __len__(self) -> int:
        """Bytes held."""
        return len(self.data)

    def unpacked(self) -> bytes:
        """The message; raises what `decompress` raises."""
        return decompress(self.data, self.encoding, self.max_bytes)


Received: TypeAlias = Message | Packed


class MessageBudget:
    """How many bytes the large messages of all calls take together, and how many they may."""

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit

    def __repr__(self) -> str:
        return f"<MessageBudget {self.held} of {self._limit}>"

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            CallFault: RESOURCE_EXHAUSTED, they are too many.
        """
        if self.held + size > self._limit:
            raise CallFault(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self.held} bytes of messages are held, and with {size} more the limit of {self._limit} "
                "is exceeded (--grpc-max-pending-bytes)",
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size


class MessageReader:
    """The messages of one call's incoming direction.

    Memory follows what has been received and not what a prefix claims: at most twice as much, or
    `FIRST_BYTES`. After a `CallFault` the reader is of no more use.

    Args:
        max_bytes: the longest message that is taken, and what a compressed one may hold.
        encoding: the call's grpc-encoding, one of `SUPPORTED`.
        budget: what large messages are counted in until they are `given_back`; None for no limit.
    """

    __slots__ = (
        "_budget",
        "_buffer",
        "_encoding",
        "_filled",
        "_head",
        "_held",
        "_is_compressed",
        "_length",
        "_max_bytes",
    )

    def __init__(
        self, max_bytes: int, encoding: str = "identity", budget: MessageBudget | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._budget = budget
        self._held = 0
        self._encoding = encoding
        self._head = b""  # of a prefix that has come in part
        self._length = _NO_LENGTH  # of the message under way
        self._is_compressed = False
        self._buffer: memoryview | None = None
        self._filled = 0

    def feed(self, data: memoryview) -> list[Received]:
        """Take the next bytes of the stream; `data` may be overwritten afterwards.

        Returns:
            The messages that they complete, in order; mostly one, often none.

        Raises:
            CallFault: RESOURCE_EXHAUSTED for a message that is too long, INTERNAL for one that is damaged.
                The messages before it in the same `data` are lost with the call.
        """
        size = len(data)
        # One whole small message in one frame is nearly every call there is.
        if self._length < 0 and size >= PREFIX_BYTES and not self._head:
            flag, length = _unpack(data)
            if size - PREFIX_BYTES == length < LARGE_BYTES and flag == 0 and length <= self._max_bytes:
                return [data[PREFIX_BYTES:].tobytes()]
        return self._feed(data, size)

    def room(self) -> memoryview | None:
        """Where the next bytes of a large message belong; None unless one is under way.

        The memory may be written to directly, from its start; `filled` then says how far. It is valid until
        the next call of the reader, and may be shorter than what is left of the message.

        Raises:
            CallFault: RESOURCE_EXHAUSTED if there is no memory for it.
        """
        return self._room() if self._length >= LARGE_BYTES else None

    def filled(self, count: int) -> Received | None:
        """Count bytes written into `room`; returns the message if they complete it.

        Raises:
            CallFault: never; it is raised when a `Packed` message is unpacked.
        """
        self._filled += count
        if self._filled < self._length:
            return None
        buffer = self._buffer
        assert buffer is not None
        self._buffer = None
        self._length = _NO_LENGTH
        return self._message(buffer.toreadonly() if len(buffer) >= LARGE_BYTES else buffer.tobytes())

    @property
    def is_between_messages(self) -> bool:
        """Whether the stream may end here."""
        return self._length < 0 and not self._head

    @property
    def partial_bytes(self) -> int:
        """Bytes held of a message that has not come whole, its prefix included."""
        return len(self._head) if self._length < 0 else PREFIX_BYTES + self._filled

    def _feed(self, data: memoryview, size: int) -> list[Received]:
        messages: list[Received] = []
        at = 0
        while at < size:
            if self._length < 0:
                at = self._prefix(data, at)
                if self._length < 0:
                    break
                stop = at + self._length
                if stop <= size and self._length < LARGE_BYTES:
                    self._length = _NO_LENGTH
                    messages.append(self._message(data[at:stop].tobytes()))
                    at = stop
                    continue
            room = self._room()
            count = min(len(room), size - at)
            room[:count] = data[at : at + count]
            at += count
            message = self.filled(count)
            if message is not None:
                messages.append(message)
        return messages

    def _prefix(self, data: memoryview, at: int) -> int:
        """Read a prefix, or what has come of it; returns where it ends."""
        stop = min(len(data), at + PREFIX_BYTES - len(self._head))
        self._head += data[at:stop]
        if len(self._head) == PREFIX_BYTES:
            flag, length = _unpack(self._head)
            self._head = b""
            self._check(flag, length)
            self._is_compressed = flag == 1
            self._length = length
            self._filled = 0
        return stop

    def _check(self, flag: int, length: int) -> None:
        if flag > 1:
            raise CallFault(grpc.StatusCode.INTERNAL, f"Bad GRPC frame type 0x{flag:02x}")
        if flag and self._encoding == "identity":
            raise CallFault(grpc.StatusCode.INTERNAL, "Compression bit set but no encoding configured")
        if length > self._max_bytes:
            raise CallFault(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"SERVER: Received message larger than max ({length} vs. {self._max_bytes})",
            )

    def _room(self) -> memoryview:
        """What is free of the buffer; a new or a larger one if there is nothing."""
        buffer = self._buffer
        if buffer is None:
            self._buffer = buffer = self._memory(min(self._length, FIRST_BYTES))
        elif self._filled == len(buffer):
            larger = self._memory(min(self._length, 2 * len(buffer)))
            larger[: self._filled] = buffer
            self.give_back(len(buffer))
            self._buffer = buffer = larger
        return buffer[self._filled :]

    def _memory(self, size: int) -> memoryview:
        if self._budget is not None:
            self._budget.take(size)
            self._held += size
        return _memory(size)

    def give_back(self, size: int | None = None) -> None:
        """The call lets go of so many bytes of its messages; None for all that are counted for it."""
        if self._budget is not None and self._held:
            size = self._held if size is None else min(size, self._held)
            self._held -= size
            self._budget.give_back(size)

    def _message(self, received: Message) -> Received:
        return Packed(received, self._encoding, self._max_bytes) if self._is_compressed else received


def _memory(size: int) -> memoryview:
    """Memory that is not zeroed first, aligned for any tensor; given back with the last view of it."""
    try:
        return np.empty(size, np.uint8).data
    except MemoryError:
        raise CallFault(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"no memory for {size} bytes of a message"
        ) from None


def decompress(data: Message, encoding: str, max_bytes: int) -> bytes:
    """A compressed message as it was; never more than `max_bytes` and one byte are inflated.

    An empty one is empty in every encoding, as in gRPC's core.

    Raises:
        CallFault: RESOURCE_EXHAUSTED for more than `max_bytes`, INTERNAL for what is no such data, is cut
            short, or has something after it.
    """
    if not data:
        return b""
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        message = inflater.decompress(data, max_bytes + 1)
    except zlib.error:
        raise _damaged("zlib error") from None
    except MemoryError:
        raise CallFault(grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory to decompress a message") from None
    if len(message) > max_bytes:
        raise CallFault(grpc.StatusCode.RESOURCE_EXHAUSTED, "Decompressed message larger than max")
    if not inflater.eof:
        raise _damaged("data error")
    if inflater.unused_data:
        raise _damaged("not all input consumed")
    return message


def _damaged(what: str) -> CallFault:
    return CallFault(grpc.StatusCode.INTERNAL, f"Decompression failed due to {what}")


def answer_encoding(level: CompressionLevel, accepted: Collection[str]) -> str:
    """The encoding of a call's answers: what gRPC's core picks at the level among what the client takes."""
    if level is CompressionLevel.NONE:
        return "identity"
    liked = ("gzip", "deflate") if level is CompressionLevel.LOW else ("deflate", "gzip")
    return next((encoding for encoding in liked if encoding in accepted), "identity")


def compress(data: Message, encoding: str) -> bytes | None:
    """A message compressed by "gzip" or "deflate"; None if it gets no smaller and is to be sent as it is."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[encoding])
    packed = deflater.compress(data) + deflater.flush()
    return packed if len(packed) < len(data) else None


def prefix(length: int, compressed: bool = False) -> bytes:
    """The five bytes before a message of `length` bytes."""
    return _PREFIX.pack(compressed, length)


def prefixed(data: Message, encoding: str = "identity") -> bytes:
    """A message as it is sent, compressed if it is to be and gets smaller by it."""
    if encoding != "identity":
        packed = compress(data, encoding)
        if packed is not None:
            return _PREFIX.pack(1, len(packed)) + packed
    return _PREFIX.pack(0, len(data)) + data


def check_sent(length: int, max_bytes: int) -> None:
    """See that an answer's message may be sent.

    Raises:
        CallFault: RESOURCE_EXHAUSTED, it is longer than `max_bytes`.
    """
    if length > max_bytes:
        raise CallFault(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"SERVER: Sent message larger than max ({length} vs. {max_bytes})",
        )
