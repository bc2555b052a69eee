"""Settings of experiments on versions."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from naiad.config.settings.kinds import Flag, Positive, Seconds, SettingsGroup


class ExperimentSettings(SettingsGroup):
    """What `experiment.json` beside a model's versions cannot say, as it may come from a caller."""

    TITLE: ClassVar[str] = "Experiments"

    experiment_directory: str = Field(
        "",
        description="A folder for the audit log of decisions, which then outlive a restart, and for the "
        "requests that shadows disagreed on most; made if it is not there. Each server needs its own.",
    )
    experiment_interval_secs: Seconds = Field(
        1.0, description="How often evidence is judged and ramps are looked at, in seconds."
    )
    allow_experiment_decisions: Flag = Field(
        False, description="Let callers roll back, promote and resume candidates (naiad ab)."
    )
    shadow_timeout_secs: Seconds = Field(
        30.0, description="CPU time that one request of a shadow may take, in seconds."
    )
    shadow_max_pending: Positive = Field(
        8, description="Copies of requests that may wait for their shadow; more are counted as skipped."
    )
    shadow_max_pending_bytes: Positive = Field(
        64 * 1024 * 1024, description="Bytes of the tensors of those copies."
    )
