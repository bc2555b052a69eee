"""Options of the commands that call a server's gRPC services: where it is, what to send, how to answer."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

DEFAULT_ADDRESS = "localhost:8001"

Address: TypeAlias = Annotated[
    str, typer.Option("--address", metavar="HOST:PORT", help="Where the server listens for gRPC.")
]
Headers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="NAME=VALUE",
        help="A header to send, where --grpc-restricted-protocol asks for one.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
