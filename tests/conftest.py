"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says nothing on a machine that does other things too.
hypothesis.settings.register_profile(
    "naiad", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("naiad")

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models, photos and golden results; skips the test where there is none."""
    folder = Path(os.environ.get("NAIAD_ASSETS", REPOSITORY_ROOT.parent / "shared" / "assets"))
    if not (folder / "MANIFEST.json").is_file():
        pytest.skip(f"no real models and photos at {folder} (set NAIAD_ASSETS)")
    return folder
