"""Settings of the gRPC front end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from naiad.config.settings.kinds import Choice, Flag, NotNegative, Port, Positive, SettingsGroup


class GrpcSettings(SettingsGroup):
    """gRPC."""

    TITLE: ClassVar[str] = "gRPC"

    allow_grpc: Flag = Field(True, description="Listen for gRPC requests.")
    grpc_address: str = Field("0.0.0.0", description="The address that gRPC listens on.")  # noqa: S104  # Triton's
    grpc_port: Port = Field(8001, description="The port that gRPC listens on; 0 takes a free one.")
    reuse_grpc_port: Flag = Field(
        False,
        description="Share the port with other servers that say the same; they must serve the same models.",
    )
    grpc_transport: Annotated[Literal["naiad", "grpcio"], Choice] = Field(
        "naiad",
        description="Who speaks HTTP/2 with gRPC's clients: naiad itself, which takes a third of the CPU, or "
        "gRPC's own server (grpcio).",
    )
    grpc_max_concurrent_streams: Positive = Field(
        4_096, le=2**31 - 1, description="Calls that one gRPC connection may have open at once."
    )
    grpc_max_pending_bytes: Positive = Field(
        4_096 * 2**20,
        description="Bytes that the gRPC messages being received and worked on may take together, counting "
        "those from 64 KiB on; --grpc-transport=naiad only.",
    )
    grpc_max_message_bytes: Positive = Field(
        2**31 - 1, le=2**31 - 1, description="The largest gRPC message taken or sent, in bytes."
    )
    grpc_header_forward_pattern: str = Field(
        "", description="Metadata whose keys match this pattern become parameters of the request."
    )
    grpc_infer_response_compression_level: Annotated[Literal["none", "low", "medium", "high"], Choice] = (
        Field("none", description="How hard inference responses are compressed: none, low, medium or high.")
    )
    grpc_restricted_protocol: tuple[str, ...] = Field(
        (),
        description="CATEGORY[,CATEGORY]:KEY=VALUE: these protocols need the metadata "
        "triton-grpc-protocol-KEY; may be given several times, in the variable one a line.",
    )


class GrpcTlsSettings(SettingsGroup):
    """gRPC over TLS."""

    TITLE: ClassVar[str] = "gRPC TLS"

    grpc_use_ssl_mutual: Flag = Field(
        False, description="Ask clients for a certificate of --grpc-root-cert; implies --grpc-use-ssl."
    )
    grpc_use_ssl: Flag = Field(False, validate_default=True, description="Serve gRPC over TLS.")
    grpc_server_cert: Path | None = Field(None, description="PEM file of the server's certificate chain.")
    grpc_server_key: Path | None = Field(None, description="PEM file of the server's private key.")
    grpc_root_cert: Path | None = Field(
        None, description="PEM file of the certificates that clients' certificates are checked against."
    )

    @field_validator("grpc_use_ssl")
    @classmethod
    def _mutual_implies_it(cls, value: bool, info: ValidationInfo) -> bool:
        return value or bool(info.data.get("grpc_use_ssl_mutual"))

    @field_validator("grpc_server_cert", "grpc_server_key", "grpc_root_cert", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value


class GrpcConnectionSettings(SettingsGroup):
    """gRPC's connections: pings and age."""

    TITLE: ClassVar[str] = "gRPC connections"

    grpc_keepalive_time: NotNegative = Field(
        7_200_000, description="A quiet connection is pinged after so long, in milliseconds."
    )
    grpc_keepalive_timeout: NotNegative = Field(
        20_000, description="A ping that is not answered for so long ends its connection, in milliseconds."
    )
    grpc_keepalive_permit_without_calls: Flag = Field(
        False, description="Ping connections without a call at work too."
    )
    grpc_http2_max_pings_without_data: NotNegative = Field(
        2, description="Pings sent without data between them; 0: any number."
    )
    grpc_http2_min_recv_ping_interval_without_data: NotNegative = Field(
        300_000, description="Clients may ping this often without data, in milliseconds."
    )
    grpc_http2_max_ping_strikes: NotNegative = Field(
        2, description="Pings too early before a client is disconnected; 0: any number."
    )
    grpc_max_connection_age: NotNegative = Field(
        0, description="A connection is closed after so long, in milliseconds; 0: never."
    )
    grpc_max_connection_age_grace: NotNegative = Field(
        0, description="What its calls then have to end, in milliseconds; 0: as long as they take."
    )
