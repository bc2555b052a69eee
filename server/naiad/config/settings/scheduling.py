"""Settings of what stands around the schedulers: response cache, rate limiter, inline runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from naiad.config.cache_config import parse_cache_config
from naiad.config.rate_config import parse_rate_limit_resources
from naiad.config.settings.kinds import Choice, SettingsGroup


class SchedulingSettings(SettingsGroup):
    """The response cache, the rate limiter, and runs without a thread."""

    TITLE: ClassVar[str] = "Response cache, rate limiter and inline runs"

    cache_config: tuple[str, ...] = Field(
        (),
        description="local,size=BYTES: memory for responses of models whose config enables response_cache; "
        "by default nothing is cached.",
    )
    rate_limit: Annotated[Literal["off", "execution_count"], Choice] = Field(
        "off",
        description="execution_count: an instance runs only while the resources of its rate_limiter are "
        "free; off: whenever it is idle.",
    )
    rate_limit_resource: tuple[str, ...] = Field(
        (),
        description="NAME:COUNT[:DEVICE]: how much there is of a resource, on every device unless one is "
        "named; by default the most that one instance needs; may be given several times, in the variable "
        "one a line.",
    )

    max_inline_run_us: int = Field(
        250,
        ge=0,
        le=10_000,
        description="Microseconds up to which the run of a lone request happens on the event loop's thread, "
        "because the way to another one and back takes longer; only of models whose work does not depend on "
        "values; 0 for never.",
    )

    @field_validator("cache_config")
    @classmethod
    def _is_a_local_cache(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        parse_cache_config(entries)
        return entries

    @field_validator("rate_limit_resource")
    @classmethod
    def _are_resources(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        parse_rate_limit_resources(entries)
        return entries
