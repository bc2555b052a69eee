"""The process aside, which runs when nothing else does: candidates of shadows, and looks into answers."""

from naiad.lifecycle.experiments.aside.jobs import (
    AsideJob,
    AsideResult,
    JobFailed,
    KeepWorst,
    ModelOpened,
    ShadowJob,
    ShadowResult,
    SignsJob,
    SignsResult,
)
from naiad.lifecycle.experiments.aside.process import AsideProcess
from naiad.lifecycle.experiments.aside.settings import AsideFigures, AsideSettings, default_budget

__all__ = [
    "AsideFigures",
    "AsideJob",
    "AsideProcess",
    "AsideResult",
    "AsideSettings",
    "JobFailed",
    "KeepWorst",
    "ModelOpened",
    "ShadowJob",
    "ShadowResult",
    "SignsJob",
    "SignsResult",
    "default_budget",
]
