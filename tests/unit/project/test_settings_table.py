"""The tables in the docs are those that the code makes."""

from __future__ import annotations

from support.compatibility import HOW_TO_REGENERATE, OPERATIONS, operations_page, settings_table

from naiad.config.server_config import ServerConfig, flag_name


def test_the_operations_page_lists_every_setting_as_it_is() -> None:
    assert OPERATIONS.read_text(encoding="utf-8") == operations_page(), (
        f"docs/operations.md: {HOW_TO_REGENERATE}"
    )


def test_the_table_has_a_row_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert sorted(row.split("`")[1] for row in rows) == sorted(map(flag_name, ServerConfig.model_fields))
