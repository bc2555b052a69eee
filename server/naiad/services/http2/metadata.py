"""The values of gRPC's headers: metadata, deadlines and messages as text on the wire and as what they say."""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

Metadata: TypeAlias = "tuple[tuple[str, str | bytes], ...]"
"""Keys and values in the order of the wire; values of keys that end in `-bin` are bytes, all others text."""

ENTRY_BYTES: Final = 32
"""What HTTP/2 counts for a field beside its name and value."""

CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields of HTTP/1's connections, which HTTP/2 does not have."""

is_key = re.compile(rb"[0-9a-z_.\-]+").fullmatch
"""Whether gRPC has such keys."""

_OWN_KEYS = frozenset(
    (b"content-type", b"grpc-accept-encoding", b"grpc-encoding", b"grpc-message", b"grpc-status", b"te")
)
_is_printable = re.compile(rb"[\x20-\x7e]*").fullmatch
_timeout = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_UNITS_NS = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
# Everything printable but the percent sign, as gRPC has it; letters, digits and `_.-~` are always safe.
_UNESCAPED = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"


def text(value: bytes) -> str:
    """A value as gRPC's Python server shows it: UTF-8, and Latin-1 where it is not."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def timeout_ns(value: bytes) -> int:
    """What `grpc-timeout` says, in nanoseconds.

    Raises:
        ValueError: it is not one to eight digits and a unit.
    """
    match = _timeout(value)
    if match is None:
        raise ValueError(f"{text(value[:64])!r} is not 1 to 8 digits and one of H, M, S, m, u, n")
    digits, unit = match.groups()
    return int(digits) * _UNITS_NS[unit]


def received(key: bytes, value: bytes) -> list[tuple[str, str | bytes]]:
    """The entries that one field stands for: several binary values may be in one, between commas.

    Raises:
        ValueError: a binary value is not base64.
    """
    name = key.decode("ascii")
    if not name.endswith("-bin"):
        return [(name, text(value))]
    try:
        return [(name, _from_base64(part.strip(b" "))) for part in value.split(b",")]
    except Base64Error as error:
        raise ValueError("illegal base64 encoding") from error


def _from_base64(value: bytes) -> bytes:
    if len(value) % 4 and not value.endswith(b"="):
        value += b"=" * (-len(value) % 4)
    # Strict mode takes neither other characters nor anything behind the padding, and no lone equals sign.
    return a2b_base64(value, strict_mode=True) if value else b""


def sent(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Metadata as fields: binary values in base64, white space around a text is left out.

    Raises:
        ValueError: a key or a value cannot be sent; the text names the key.
    """
    return [(_sent_key(key), _sent_value(key, value)) for key, value in metadata]


def _sent_key(key: str) -> bytes:
    name = key.encode("utf-8", "replace")
    if not is_key(name):
        raise ValueError(f"metadata key {key!r} is not of lower-case letters, digits, '_', '-' and '.'")
    if name in _OWN_KEYS or name in CONNECTION_FIELDS:
        raise ValueError(f"metadata key {key!r} is the protocol's own")
    return name


def _sent_value(key: str, value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    if key.endswith("-bin"):
        return b64encode(raw).rstrip(b"=")
    if not _is_printable(raw):
        raise ValueError(f"the value of metadata key {key!r} is not of printable ASCII characters")
    return raw.strip(b" ")


def percent_encoded(message: str, max_bytes: int) -> bytes:
    """A status message as `grpc-message` holds it, cut between two characters if it is over `max_bytes`."""
    encoded = _quoted(message[:max_bytes])
    while len(encoded) > max_bytes:
        # A cut may go through `%E2` and through the bytes of one character. Decoding drops both.
        whole = re.sub(r"%.?$", "", encoded[:max_bytes])
        encoded = _quoted(unquote_to_bytes(whole).decode("utf-8", "ignore"))
    return encoded.encode("ascii")


def _quoted(message: str) -> str:
    encoded = quote(message, safe=_UNESCAPED, errors="backslashreplace")
    # White space at the ends of a field's value is not allowed in HTTP/2, and some clients drop the field.
    begun = encoded.lstrip(" ")
    body = begun.rstrip(" ")
    return "%20" * (len(encoded) - len(begun)) + body + "%20" * (len(begun) - len(body))
