"""Settings of models that other servers run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from naiad.config.engine_address import parse_engine
from naiad.config.settings.kinds import Positive, Seconds, SettingsGroup
from naiad.core.errors import InvalidArgumentError


class EngineSettings(SettingsGroup):
    """Who runs the models."""

    TITLE: ClassVar[str] = "Engine"

    engine: str = Field(
        "",
        description="triton://HOST:PORT[,HOST:PORT...]: these Triton servers run the models, asked in turn; "
        "by default this process does, with ONNX Runtime.",
    )
    engine_instances: Positive = Field(
        8, description="With --engine, calls a model makes at once if its config has no instance_group count."
    )
    engine_timeout_secs: Seconds = Field(
        30.0, description="With --engine, how long one server may take to answer one call, in seconds."
    )

    @field_validator("engine")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        try:
            return text and f"triton://{','.join(parse_engine(text))}"
        except InvalidArgumentError as error:
            raise ValueError(error.message) from None
