"""Settings of the process and of the model repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from naiad.config.settings.backend_config import DEFAULT_MAX_BATCH_SIZE, parse_backend_config
from naiad.config.settings.kinds import (
    Choice,
    Flag,
    NotNegative,
    Positive,
    Seconds,
    SecondsOrNone,
    SettingsGroup,
)

_OBJECT_STORE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")  # a Path has lost the second slash


def _default_max_batch_size(data: dict[str, Any]) -> int:
    """What --backend-config says, else Triton's own."""
    return parse_backend_config(data.get("backend_config", ())).get(DEFAULT_MAX_BATCH_SIZE, 4)


def _is_polling(data: dict[str, Any]) -> bool:
    return data.get("model_control_mode") == "poll"


class ServerSettings(SettingsGroup):
    """The process."""

    TITLE: ClassVar[str] = "Server"

    server_id: str = Field(
        "triton", description="The server's name in its metadata, as clients of Triton expect it."
    )
    exit_on_error: Flag = Field(
        True, description="Exit if a model fails to load at start; false serves the others."
    )
    strict_readiness: Flag = Field(
        True, description="Ready only when every model is loaded; false: as soon as the server is up."
    )
    exit_timeout_secs: Seconds = Field(
        30.0, description="How long accepted requests may take to finish after SIGTERM, in seconds."
    )


class RepositorySettings(SettingsGroup):
    """Which models there are, and when they are loaded."""

    TITLE: ClassVar[str] = "Model repository"

    model_repository: tuple[Path, ...] = Field(
        min_length=1,
        description="A model repository; may be given several times, in the variable separated by colons.",
    )
    model_control_mode: Annotated[Literal["none", "poll", "explicit"], Choice] = Field(
        "none",
        description="none: every model at start; poll: and again when its folder changes; "
        "explicit: those of --load-model, then as clients ask.",
    )
    repository_poll_secs: Seconds = Field(
        15.0, description="In mode poll, how often the repository is looked at, in seconds."
    )
    repository_watch: Flag = Field(
        True, description="In mode poll, look also as soon as the system tells that something changed."
    )
    repository_quiet_secs: SecondsOrNone = Field(
        1.0,
        description="In mode poll, how long a folder must not have changed before it is loaded, in "
        "seconds; 0 loads it at the first look.",
    )
    repository_ready_marker: str = Field(
        "",
        pattern=r"^[^\s/]*$",
        description="A version's folder counts only once it holds a file of this name, such as .ready.",
    )
    allow_interface_change: Flag = Field(
        False,
        description="Let a new version take the place of one that serves though inputs or outputs differ.",
    )
    ready_while_loading: Flag = Field(
        default_factory=_is_polling,
        description="With --strict-readiness, stay ready while every model that served does, whatever loads "
        "or failed to; true by default in mode poll.",
    )
    load_model: tuple[str, ...] = Field(
        (),
        description="In mode explicit, a model to load at start; may be given several times, in the "
        "variable separated by colons; * alone is every model.",
    )
    model_config_name: str = Field(
        "",
        pattern=r"^[^\s/]*$",
        description="Take configs/NAME.pbtxt for a model's config where there is one.",
    )
    model_load_thread_count: Positive = Field(4, description="How many model versions load at the same time.")
    model_load_retry_count: NotNegative = Field(
        0, description="How often a load that failed is tried again at once."
    )
    strict_model_config: Flag = Field(
        False, description="Deprecated: true is --disable-auto-complete-config."
    )
    disable_auto_complete_config: Flag = Field(
        False,
        validate_default=True,
        description="Complete nothing from the ONNX file: config.pbtxt must say it all.",
    )
    backend_config: tuple[str, ...] = Field(
        (),
        description="[BACKEND,]KEY=VALUE of Triton; may be given several times, in the variable one a line. "
        "Honoured: default-max-batch-size, alone and of onnxruntime.",
    )
    default_max_batch_size: NotNegative = Field(
        default_factory=_default_max_batch_size,
        description="max_batch_size of a batchable model whose config names neither it nor tensors.",
    )

    @field_validator("model_repository")
    @classmethod
    def _are_folders_of_this_machine(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in paths:
            if store := _OBJECT_STORE.match(str(path)):
                raise ValueError(
                    f"object stores ({store[1]}://…) are not read: mount the bucket or copy it first"
                )
        return paths

    @field_validator("disable_auto_complete_config")
    @classmethod
    def _strict_is_its_old_name(cls, value: bool, info: ValidationInfo) -> bool:
        return value or bool(info.data.get("strict_model_config"))

    @field_validator("backend_config")
    @classmethod
    def _entries_are_known(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        parse_backend_config(entries)
        return entries

    @field_validator("load_model")
    @classmethod
    def _all_stands_alone(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in names and len(set(names)) > 1:
            raise ValueError("* is every model and must be the only --load-model")
        return names
