"""Where the parts of a serialized `ModelInferRequest` lie, without parsing what they say. Pure."""

from __future__ import annotations

from typing import NamedTuple

MAX_FIELDS = 64
"""Fields of a message that are looked at: each takes the event loop a microsecond."""

MAX_HEAD_BYTES = 4_096
"""A longer head is not kept as a key."""

# Tags of length-delimited fields: number << 3 | 2.
_ID = 3 << 3 | 2
_CONTENT = 7 << 3 | 2
_HEAD = frozenset(number << 3 | 2 for number in (1, 2, 3, 4, 5, 6))
_MORE = 0x80
"""The bit of a varint's byte that says that another one follows."""


class Scanned(NamedTuple):
    """The parts of a message.

    `head` is all that comes before the contents, without the id: two requests with equal heads differ in
    their id and in their inputs' data alone. `id_field` is the id as it lies in the message, tag and length
    included; an answer's id has the same tag. `contents` has where each of `raw_input_contents` starts and
    stops.
    """

    head: bytes
    id_field: bytes
    contents: list[tuple[int, int]]


def scan(data: bytes | memoryview) -> Scanned | None:  # noqa: C901, PLR0912  # a call a field doubles its time
    """Find the parts of a message whose fields lie in the order of their numbers, as libraries write them.

    Returns:
        None for everything else, and that is no error: unknown fields, another order, a cut.
    """
    size = len(data)
    position = head_stop = id_start = id_stop = 0
    contents: list[tuple[int, int]] = []
    try:
        for _ in range(MAX_FIELDS):
            tag = data[position]
            stop = data[position + 1]
            if stop < _MORE:
                start = position + 2
                stop += start
            else:
                start, stop = _long_field(data, position + 1)
            if tag == _CONTENT:
                if not contents:
                    head_stop = position
                contents.append((start, stop))
            elif contents or tag not in _HEAD:
                return None
            elif tag == _ID:
                if id_stop:
                    return None
                id_start, id_stop = position, stop
            position = stop
            if position >= size:
                break
    except IndexError:  # it ends within a tag or a length
        return None
    if not contents:  # all inputs lie in shared memory
        head_stop = position
    if position != size or not 0 < head_stop <= MAX_HEAD_BYTES:
        return None
    # `bytes` of bytes is the same object: of a view, it is what a dict can look up.
    head = bytes(data[:head_stop])
    if not id_stop:
        return Scanned(head, b"", contents)
    return Scanned(head[:id_start] + head[id_stop:], head[id_start:id_stop], contents)


def id_text(id_field: bytes) -> str:
    """The id in its field; UnicodeDecodeError if it is none."""
    start = 2 if id_field[1] < _MORE else _long_field(id_field, 1)[0]
    return id_field[start:].decode()


def _long_field(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Start and stop of a field whose length takes more than a byte; IndexError if there is no end to it."""
    length = shift = 0
    while shift < 35:
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < _MORE:
            return position, position + length
        shift += 7
    raise IndexError(position)


def varint(value: int) -> bytes:
    """A number as protobuf writes lengths."""
    encoded = bytearray()
    while value >= _MORE:
        encoded.append(value & 0x7F | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
