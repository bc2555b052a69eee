"""Header blocks of answers: heads, trailers and refusals.

They refer to HTTP/2's static table alone and put nothing into the client's, so that one block's bytes fit
every connection and every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hpack.hpack import encode_integer
from hpack.table import HeaderTable

from naiad.services.http2.metadata import ENTRY_BYTES, percent_encoded, sent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Entries = Iterable[tuple[str, str | bytes]]
    Fields = Sequence[tuple[bytes, bytes]]

MAX_TRAILER_BYTES: Final = 8_000
"""What trailers take at most, as HTTP/2 counts them: clients refuse more than 8 KiB, so messages are cut."""

_POST_ALONE = 405
_CONTENT_TYPE = (b"content-type", b"application/grpc")
_HEAD = ((b":status", b"200"), _CONTENT_TYPE)


def _field(name: bytes, value: bytes) -> bytes:
    """A field as a reference to the static table, or as a literal that no table takes."""
    found = HeaderTable.STATIC_TABLE_MAPPING.get(name)
    if found is None:
        return b"\x00%b%b" % (_text(name), _text(value))
    index, whole = found
    if value in whole and value:
        reference = encode_integer(whole[value], 7)
        reference[0] |= 0x80
        return bytes(reference)
    return bytes(encode_integer(index, 4)) + _text(value)


def _text(value: bytes) -> bytes:
    return bytes(encode_integer(len(value), 7)) + value


def _block(fields: Fields) -> bytes:
    return b"".join([_field(name, value) for name, value in fields])


def _with_status(before: Fields, code: int, message: str, metadata: Entries) -> bytes:
    """The fields `before`, the status and the metadata; the message gets what room is left."""
    fields = [*before, (b"grpc-status", b"%d" % code)]
    after = sent(metadata)
    if message:
        name = b"grpc-message"
        used = sum([len(key) + len(value) + ENTRY_BYTES for key, value in (*fields, *after, (name, b""))])
        fields.append((name, percent_encoded(message, max(MAX_TRAILER_BYTES - used, 0))))
    return _block(fields + after)


INITIAL: Final = _block(_HEAD)
"""The head of an answer without compression or metadata."""

OK_TRAILERS: Final = _with_status((), 0, "", ())
"""The end of a call that went well."""


def initial_block(encoding: str | None, metadata: Entries = (), *, accept: str = "") -> bytes:
    """The head of an answer.

    Args:
        encoding: how its messages are compressed; None says nothing of it.
        metadata: of the handler.
        accept: the compressions that this server takes, between commas; empty says nothing of it.

    Raises:
        ValueError: a key or a value cannot be sent; the text names the key.
    """
    fields = [*_HEAD]
    if encoding is not None:
        fields.append((b"grpc-encoding", encoding.encode("ascii")))
    if accept:
        fields.append((b"grpc-accept-encoding", accept.encode("ascii")))
    return _block(fields + sent(metadata))


def trailers_block(code: int, message: str, metadata: Entries = ()) -> bytes:
    """The end of a call whose answer has a head. A message that is too long is cut.

    Raises:
        ValueError: a key or a value cannot be sent; the text names the key.
    """
    return _with_status((), code, message, metadata)


def trailers_only_block(code: int, message: str, metadata: Entries = (), *, accept: str = "") -> bytes:
    """The whole answer to a call that is refused: head and end in one. A message that is too long is cut.

    Args:
        code: the status's number.
        message: what is wrong.
        metadata: of the handler.
        accept: the compressions that this server takes, where the call's is none of them.

    Raises:
        ValueError: a key or a value cannot be sent; the text names the key.
    """
    head = (*_HEAD, (b"grpc-accept-encoding", accept.encode("ascii"))) if accept else _HEAD
    return _with_status(head, code, message, metadata)


def http_refusal_block(http_status: int, code: int, message: str) -> bytes:
    """The whole answer to a request that is no call of gRPC."""
    fields = [(b":status", b"%d" % http_status), _CONTENT_TYPE]
    if http_status == _POST_ALONE:
        fields.append((b"allow", b"POST"))
    return _with_status(fields, code, message, ())
