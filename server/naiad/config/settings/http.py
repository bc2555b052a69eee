"""Settings of the HTTP front end."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from naiad.config.settings.kinds import Flag, Port, Positive, Seconds, SettingsGroup


class HttpSettings(SettingsGroup):
    """HTTP."""

    TITLE: ClassVar[str] = "HTTP"

    allow_http: Flag = Field(True, description="Listen for HTTP requests.")
    http_address: str = Field("0.0.0.0", description="The address that HTTP listens on.")  # noqa: S104  # Triton's
    http_port: Port = Field(8000, description="The port that HTTP listens on; 0 takes a free one.")
    reuse_http_port: Flag = Field(
        False,
        description="Share the port with other servers that say the same; they must serve the same models.",
    )
    http_max_input_size: Positive = Field(
        64 * 2**20, description="The largest HTTP request body, in bytes; of binary requests its JSON part."
    )
    http_max_body_size: Positive = Field(
        2**31 - 1,
        le=2**31 - 1,
        description="The largest HTTP request body with binary tensors, in bytes.",
    )
    http_max_pending_bytes: Positive = Field(
        4 * 2**30,
        description="Bytes of HTTP request bodies, inflated, that may be held before more are refused.",
    )
    http_max_connections: Positive = Field(
        1_024, description="HTTP connections that may be open before more are refused."
    )
    http_keep_alive_secs: Seconds = Field(
        300.0, description="An HTTP connection on which nothing is asked for so long is closed, in seconds."
    )
    http_stall_timeout_secs: Seconds = Field(
        30.0,
        description="An HTTP request of which nothing comes for so long, or an answer that nobody reads, is "
        "given up, in seconds.",
    )
    http_header_forward_pattern: str = Field(
        "", description="Headers whose names match this pattern become parameters of the request."
    )
    http_restricted_api: tuple[str, ...] = Field(
        (),
        description="CATEGORY[,CATEGORY]:HEADER=VALUE: these APIs need that header; may be given several "
        "times, in the variable one a line.",
    )
