"""Fixtures that every kind of test shares."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# How long an example takes says nothing on a machine that does other things too.
hypothesis.settings.register_profile(
    "naiad", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("naiad")

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests live to the end: the collector looks at them neither while they are made nor after."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(trylast=True)  # pytest's own order, by fixtures, holds among the slow and among the others
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that hold slow tests come first: no process begins a long one when the others have none left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models, photos and golden results; skips the test where there is none."""
    folder = Path(os.environ.get("NAIAD_ASSETS", REPOSITORY_ROOT.parent / "shared" / "assets"))
    if not (folder / "MANIFEST.json").is_file():
        pytest.skip(f"no real models and photos at {folder} (set NAIAD_ASSETS)")
    return folder
