"""One request on its way through the front end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from naiad.core.errors import InvalidArgumentError
from naiad.services.http.compression import body_encoding, decompressed_too_large, inflate
from naiad.services.http.json_text import parse_object
from naiad.services.http.number_text import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from naiad.services.http.body import BodyReader
    from naiad.services.http.routes import Route
    from naiad.services.http.service import Triton
    from naiad.services.http.settings import HttpSettings


Parsed = TypeVar("Parsed")


@dataclass(slots=True)
class Call:
    """What an endpoint needs: the protocol, the route, the headers (the first of each name), the body.

    `parsers` bounds how many long texts are parsed at once; `is_draining` says that the server ends.
    """

    triton: Triton
    settings: HttpSettings
    route: Route
    method: str
    headers: Mapping[bytes, bytes]
    all_headers: Sequence[tuple[bytes, bytes]]
    reader: BodyReader
    parsers: asyncio.Semaphore
    is_draining: bool

    def header(self, name: bytes) -> str:
        """A header's value, "" if it was not sent."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    def header_texts(self) -> list[tuple[str, str]]:
        """Every header, names in lower case."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.all_headers]

    async def text(self) -> bytes:
        """The body as a JSON text, inflated.

        Raises:
            NaiadError: it is too large, has stalled or is compressed in a way that is not served.
        """
        encoding = body_encoding(self.header(b"content-encoding"))
        if encoding:
            return bytes(await self.inflated(encoding))
        return bytes(await self.reader.read(self.settings.max_input_size, self.json_too_large))

    async def inflated(self, encoding: str) -> bytearray:
        """The body inflated, which may be no more than `max_input_size`, nor may it be that before.

        Raises:
            NaiadError: it is too large, has stalled or is not what `encoding` says.
        """
        limit = self.settings.max_input_size
        packed = await self.reader.read(limit, lambda _: decompressed_too_large(limit))
        # Even a small body may hold much.
        body = await asyncio.to_thread(inflate, packed, encoding, limit)
        self.reader.hold(len(body))
        return body

    async def json(self, *, allow_empty: bool) -> dict[str, Any]:
        """The body as a JSON object; an empty one stands for an empty object if it may.

        Raises:
            NaiadError: as `text`; or it is no JSON object.
        """
        text = await self.text()
        if allow_empty and not text:
            return {}
        return await self.parsed(partial(parse_object, text), len(text))

    async def parsed(self, parse: Callable[[], Parsed], size: int) -> Parsed:
        """What `parse` makes of a text of `size` bytes, beside the event loop if it is long."""
        if size <= LONG:
            return parse()
        async with self.parsers:
            return await asyncio.to_thread(parse)

    def json_too_large(self, size: int) -> InvalidArgumentError:
        """The error for a JSON text of `size` bytes."""
        return InvalidArgumentError(
            f"request JSON size of {size} bytes exceeds the maximum allowed input size of "
            f"{self.settings.max_input_size} bytes. Use --http-max-input-size to increase the limit."
        )
