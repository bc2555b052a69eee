"""Whatever stands in a config, reading it ends in a config or in a domain error that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fuzz.config_strategies import config_jsons, config_texts
from hypothesis import HealthCheck, given, settings

from naiad.config.reader import parse_config_override, read_model_config
from naiad.core.errors import NaiadError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder."""
    folder = tmp_path_factory.mktemp("repository") / "m"
    (folder / "1").mkdir(parents=True)
    return folder


@given(text=config_texts())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_config_file_is_read_or_refused(folder: Path, text: str) -> None:
    """Never another exception, and never for long."""
    (folder / "config.pbtxt").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = read_model_config(folder)
    except NaiadError as error:
        assert error.message  # noqa: PT017  # both outcomes are right
    else:
        assert config.name == "m"


@given(text=config_jsons)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_config_of_a_load_request_is_read_or_refused(folder: Path, text: str) -> None:
    """The same for the JSON that a client sends."""
    try:
        config = parse_config_override(text, folder)
    except NaiadError as error:
        assert error.message  # noqa: PT017  # both outcomes are right
    else:
        assert config.folder == folder
