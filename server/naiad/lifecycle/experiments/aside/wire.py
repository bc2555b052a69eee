"""Messages between the serving process and the one aside: JSON behind its length, on a pair of sockets.

Both sides speak the same version of this file, and neither trusts the other with code: nothing is pickled.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from naiad.core.errors import InternalError, ResourceExhaustedError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside.jobs import (
    AsideResult,
    JobFailed,
    ModelOpened,
    ShadowResult,
    SignsResult,
)
from naiad.vision.agreement import AnswerSigns, agreement_from_dict, agreement_to_dict

if TYPE_CHECKING:
    import socket

Message: TypeAlias = dict[str, Any]

MAX_MESSAGE_BYTES = 64 * 1024
"""Less than what a socket takes without a reader, so that sending never waits."""

_RECEIVED_BYTES = 64 * 1024
_LENGTH = struct.Struct("<I")


def send(connection: socket.socket, message: Message) -> None:
    """Send a message.

    Raises:
        ResourceExhaustedError: it is too long.
        OSError: the other side is gone.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ResourceExhaustedError(
            f"a message of {len(data)} bytes to the process aside is over the limit of {MAX_MESSAGE_BYTES}: "
            "the request has too many tensors"
        )
    connection.sendall(_LENGTH.pack(len(data)) + data)


class Receiver:
    """Messages of one connection, one at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._data = b""

    def receive(self) -> Message | None:
        """Wait until something comes; a message, or None as long as it is not whole.

        Raises:
            EOFError: the other side is gone.
            InternalError: what it sent is no message.
        """
        try:
            received = self._connection.recv(_RECEIVED_BYTES)
        except ConnectionError:
            received = b""
        if not received:
            raise EOFError
        self._data += received
        if len(self._data) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._data)
        if length > MAX_MESSAGE_BYTES:
            raise InternalError(f"a message of {length} bytes is over the limit of {MAX_MESSAGE_BYTES}")
        end = _LENGTH.size + length
        if len(self._data) < end:
            return None
        data, self._data = self._data[_LENGTH.size : end], self._data[end:]
        try:
            message: Message = json.loads(data)
        except ValueError as error:
            raise InternalError(f"{length} bytes are no message: {error}") from None
        return message


def result_to_message(result: AsideResult) -> Message:
    """A result as a message."""
    if isinstance(result, ShadowResult):
        kept = None if result.kept_path is None else str(result.kept_path)
        figures = agreement_to_dict(result.agreement)
        told = {"candidate_ms": result.candidate_ms, "kept_path": kept, "not_kept": result.not_kept}
        return {"agreement": figures, **told}
    if isinstance(result, SignsResult):
        return {"signs": asdict(result.signs)}
    if isinstance(result, ModelOpened):
        return {"opened": list(result.key), "notes": list(result.notes)}
    return {"failed": asdict(result)}


def result_from_message(message: Message) -> AsideResult:
    """The other way round.

    Raises:
        InternalError: it is none.
    """
    if "agreement" in message:
        kept = message["kept_path"]
        agreement = agreement_from_dict(message["agreement"])
        path = None if kept is None else Path(kept)
        return ShadowResult(agreement, message["candidate_ms"], path, message["not_kept"])
    if "signs" in message:
        return SignsResult(AnswerSigns(**message["signs"]))
    if "opened" in message:
        return ModelOpened(ModelKey(*message["opened"]), tuple(message["notes"]))
    if "failed" in message:
        return JobFailed(**message["failed"])
    raise InternalError(f"the process aside answered with {sorted(message)}")
