"""Settings of TensorRT's engines."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from naiad.config.settings.kinds import Positive, SettingsGroup


class TensorRtSettings(SettingsGroup):
    """Where engines are kept."""

    TITLE: ClassVar[str] = "TensorRT"

    tensorrt_cache_directory: Path | None = Field(
        None,
        description="Where TensorRT engines are kept from one start to the next; by default naiad/tensorrt "
        "below $XDG_CACHE_HOME or ~/.cache, and without a home /var/cache/naiad/tensorrt.",
    )
    tensorrt_cache_max_bytes: Positive = Field(
        20 * 2**30,
        description="Bytes of engines that are kept; then those that were used longest ago are removed.",
    )
