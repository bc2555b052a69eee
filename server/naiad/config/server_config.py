"""The server's settings: one definition of every flag, its environment variable, its default and its text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "NAIAD_"

Port = Annotated[int, Field(ge=0, le=65_535)]
Positive = Annotated[int, Field(ge=1)]


class ServerConfig(BaseModel):
    """Everything `naiad serve` can be told: field `x_y` is flag `--x-y` and variable `NAIAD_X_Y`."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_repository: tuple[Path, ...] = Field(
        min_length=1,
        description="A model repository; may be given several times, in the variable separated by colons.",
    )
    server_id: str = Field(
        "triton", description="The server's name in its metadata, as clients of Triton expect it."
    )
    grpc_address: str = Field("0.0.0.0", description="The address that gRPC listens on.")  # noqa: S104  # Triton's
    grpc_port: Port = Field(8001, description="The port that gRPC listens on; 0 takes a free one.")
    grpc_max_message_bytes: Positive = Field(
        2**31 - 1, le=2**31 - 1, description="The largest gRPC message taken or sent, in bytes."
    )
    exit_on_error: bool = Field(
        True, description="Exit if a model fails to load at start; false serves the others."
    )
    strict_readiness: bool = Field(
        True, description="Ready only when every model is loaded; false: as soon as the server is up."
    )
    exit_timeout_secs: Annotated[float, Field(gt=0)] = Field(
        30.0, description="How long accepted requests may take to finish after SIGTERM, in seconds."
    )
    disable_auto_complete_config: bool = Field(
        False, description="Complete nothing from the ONNX file: config.pbtxt must say it all."
    )
    default_max_batch_size: Annotated[int, Field(ge=0)] = Field(
        4,
        description="max_batch_size of a batchable model whose config names neither it nor tensors.",
    )
    model_load_thread_count: Positive = Field(4, description="How many model versions load at the same time.")
    cpu_threads: Positive | None = Field(
        None, description="CPU threads to use in all; by default what the cgroup's quota and affinity give."
    )
    decode_threads: Positive | None = Field(
        None, description="Threads that decode and resize images; by default the CPU threads."
    )
    max_queue_size: Positive = Field(
        1_000, description="Requests that may wait for one model version before more are refused."
    )
    max_image_bytes: Positive = Field(32 * 2**20, description="The largest encoded or raw image, in bytes.")
    max_image_pixels: Positive = Field(64 * 10**6, description="The most pixels an image may have.")
    max_pending_images: Positive = Field(
        256, description="Images that may wait for a decode thread before more are refused."
    )
    stream_max_in_flight: Positive = Field(
        16,
        description="Messages of one stream that are worked on at once; then the stream is read no further.",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="How log lines are written: text or json."
    )
    log_verbose: Annotated[int, Field(ge=0)] = Field(0, description="Above 0: debug events too.")


def flag_name(field: str) -> str:
    """`max_queue_size` is `--max-queue-size`; `server_id` is Triton's `--id`."""
    return "--id" if field == "server_id" else "--" + field.replace("_", "-")


def environment_name(field: str) -> str:
    """`max_queue_size` is `NAIAD_MAX_QUEUE_SIZE`."""
    return ENVIRONMENT_PREFIX + field.upper()


def server_config(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> ServerConfig:
    """The settings from flags that were given (by field name), then the environment, then the defaults.

    Raises:
        InvalidArgumentError: naming the flag or variable, its value and what is allowed.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for field in ServerConfig.model_fields:
        if field in flags:
            values[field] = flags[field]
        elif text := environment.get(environment_name(field)):  # empty is as good as not there
            values[field] = text.split(os.pathsep) if field == "model_repository" else text
    try:
        return ServerConfig(**values)
    except ValidationError as error:
        raise InvalidArgumentError("; ".join(_explain(detail, flags) for detail in error.errors())) from None


def _explain(detail: Any, flags: Mapping[str, Any]) -> str:
    field = str(detail["loc"][0])
    if detail["type"] == "missing":
        return f"{flag_name(field)} is required (or {environment_name(field)})"
    name = flag_name(field) if field in flags else environment_name(field)
    return f"{name}={detail['input']}: {detail['msg']}"
