"""Settings of the engine's profiles."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from naiad.config.settings.kinds import SettingsGroup


class ProfileSettings(SettingsGroup):
    """Profiles of single models. Only an operator can ask for them: a config may come from a caller."""

    TITLE: ClassVar[str] = "Profiles"

    profile_directory: str = Field(
        "",
        description="An existing folder that ONNX Runtime's profiles of the models of --profile-model are "
        "written to, as JSON, when they are unloaded or the server stops. Profiled runs are slower.",
    )
    profile_model: tuple[str, ...] = Field(
        (),
        description="A model to profile; may be given several times, in the variable one a line.",
    )

    @field_validator("profile_directory")
    @classmethod
    def _is_a_folder(cls, folder: str) -> str:
        if folder and not Path(folder).is_dir():
            raise ValueError("it is not an existing folder")
        return folder
