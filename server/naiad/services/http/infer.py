"""The inference call: its body to tensors, its answer's tensors to a body."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.services.callers import caller_of
from naiad.services.forwarding import forwarded
from naiad.services.http import compression
from naiad.services.http.infer_answer import is_heavy, write_answer
from naiad.services.http.infer_json import parse_infer
from naiad.services.http.raw_request import HEADER, image_kind, parse_raw, picture_without_header
from naiad.services.http.reply import BINARY, JSON, Reply
from naiad.telemetry.tracing import FrontEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from naiad.services.answer import InferAnswer
    from naiad.services.http.call import Call
    from naiad.services.http.infer_json import ParsedInfer

HEADER_LENGTH = b"inference-header-content-length"
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


async def model_infer(call: Call) -> Reply:
    """Run one request."""
    name, version = call.route.names
    _check_model(call, name, version)
    parsed = await _read(call, name, version)
    answer = await call.triton.infer(
        parsed.message,
        parsed.data,
        headers=dict(call.header_texts()) if call.triton.wants_headers else _NO_HEADERS,
        forwarded=_forwarded(call),
        front_end=FrontEnd.HTTP,
        caller=caller_of(call.header_texts()),
    )
    return await _write(call, answer, parsed.is_binary)


async def model_generate(call: Call) -> Reply:
    """Refused, once the body has passed the checks of any body."""
    await call.text()
    raise UnsupportedError("Naiad does not serve the generate extension: use the infer endpoint")


def _forwarded(call: Call) -> dict[str, str] | None:
    pattern = call.settings.header_forward_pattern
    if pattern is None:
        return None
    secrets = {restriction.key.lower() for restriction in call.settings.restrictions.values()}
    return forwarded(call.header_texts(), pattern, hidden=secrets)


def _check_model(call: Call, name: str, version: str) -> None:
    """Refuse an unknown model before its body is read, as Triton does."""
    if not call.triton.model_ready(name, version):
        # It says why, in the words of a look-up.
        call.triton.model_metadata(pb.ModelMetadataRequest(name=name, version=version))


async def _read(call: Call, name: str, version: str) -> ParsedInfer:
    """The request in the body: JSON, JSON and binary tensors, or nothing but one tensor's bytes."""
    announced = _announced_length(call.header(HEADER_LENGTH))
    body = await _body(call, announced)
    length = len(body) if announced is None else announced
    if not 0 <= length <= len(body):
        raise InvalidArgumentError(
            f"inference header size should be in range (0, {len(body)}), got: {length}"
        )
    view = memoryview(body).toreadonly()
    if announced is None and (kind := image_kind(view, call.header(b"content-type"))):
        raise picture_without_header(call.triton, name, version, kind)
    if announced == 0:
        return parse_raw(call.triton, name, version, view)
    if length > call.settings.max_input_size:
        raise call.json_too_large(length)

    def parse() -> ParsedInfer:
        # The copy is made here: a request that waits for a thread holds its body once.
        text, tail = bytes(view[:length]), view[length:]
        return parse_infer(name, version, text, tail, max_input=call.settings.max_input_size)

    return await call.parsed(parse, length)


async def _body(call: Call, announced: int | None) -> bytes | bytearray:
    encoding = compression.body_encoding(call.header(b"content-encoding"))
    if encoding:
        return await call.inflated(encoding)
    limit = call.settings.max_input_size
    if announced is None:
        return await call.reader.read(limit, call.json_too_large)
    if announced == 0:
        return await call.reader.read(limit, partial(_raw_too_large, limit))
    limit = call.settings.max_body_size
    return await call.reader.read(limit, partial(_body_too_large, limit))


def _announced_length(text: str) -> int | None:
    """The length of the body's JSON part as the head says it; None if it does not."""
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        raise InvalidArgumentError(f"Unable to parse {HEADER}, got: {text}")
    # Of a long number only its length matters, and Python limits how long one may be.
    length = int(text) if len(text) <= len(str(INT32_MIN)) else INT32_MAX + 1
    if not INT32_MIN <= length <= INT32_MAX:
        raise InvalidArgumentError(
            f"Unable to parse {HEADER}, value is out of range [ {INT32_MIN}, {INT32_MAX} ], got: {text}"
        )
    return length


def _raw_too_large(limit: int, size: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"Raw input has a byte_size ({size} bytes) that exceeds the maximum allowed value of {limit} bytes. "
        "Use --http-max-input-size to increase the limit."
    )


def _body_too_large(limit: int, size: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"request body of {size} bytes exceeds the maximum allowed size of {limit} bytes. "
        "Use --http-max-body-size to increase the limit."
    )


async def _write(call: Call, answer: InferAnswer, is_binary: Callable[[str], bool]) -> Reply:
    write = partial(write_answer, answer, is_binary)
    parts, json_bytes = await asyncio.to_thread(write) if is_heavy(answer, is_binary) else write()
    reply = Reply(headers=[JSON], parts=parts)
    if json_bytes is not None:
        reply.headers = [BINARY, (HEADER_LENGTH, b"%d" % json_bytes)]
    if encoding := compression.accepted_encoding(call.header(b"accept-encoding")):
        pack = partial(compression.deflate, parts, encoding)
        is_long = sum(map(len, parts)) > compression.HEAVY_BYTES
        reply.parts = [await asyncio.to_thread(pack) if is_long else pack()]
        reply.headers.append((b"content-encoding", encoding.encode("ascii")))
    return reply
