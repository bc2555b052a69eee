"""The tables in the docs are those that the code makes."""

from __future__ import annotations

import json

from support.compatibility import (
    HOW_TO_REGENERATE,
    OPERATIONS,
    VERSIONS,
    experiment_table,
    operations_page,
    settings_table,
    versions_page,
)

from naiad.config.experiment_config import ExperimentConfig
from naiad.config.server_config import ServerConfig, flag_name


def test_the_operations_page_lists_every_setting_as_it_is() -> None:
    assert OPERATIONS.read_text(encoding="utf-8") == operations_page(), (
        f"docs/operations.md: {HOW_TO_REGENERATE}"
    )


def test_the_table_has_a_row_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert sorted(row.split("`")[1] for row in rows) == sorted(map(flag_name, ServerConfig.model_fields))


def test_the_versions_page_lists_every_field_of_an_experiment_as_it_is() -> None:
    assert VERSIONS.read_text(encoding="utf-8") == versions_page(), f"docs/versions.md: {HOW_TO_REGENERATE}"


def test_the_table_has_a_row_for_every_field_of_the_schema() -> None:
    """Also of a part of an experiment that comes to it later."""
    schema = ExperimentConfig.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    fields = sorted(name for part in parts for name in part["properties"] if name != "$schema")
    rows = experiment_table().splitlines()[2:]
    assert sorted(row.split("`")[1].rpartition(".")[2] for row in rows) == fields
    described = [row for row in rows if row.split(" | ")[-1].strip(" |")]
    assert described == rows, json.dumps(rows)
