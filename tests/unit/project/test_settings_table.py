"""The table of settings in the docs is the one that the code makes."""

from __future__ import annotations

import re
from pathlib import Path

from naiad.config.server_config import ServerConfig, environment_name, flag_name

ROOT = Path(__file__).resolve().parents[3]


def settings_table() -> str:
    """One row a setting, from the fields of ServerConfig."""
    rows = ["| flag | variable | default | meaning |", "|---|---|---|---|"]
    for name, field in ServerConfig.model_fields.items():
        default = field.default
        shown = "required" if field.is_required() else "automatic" if default is None else default
        text = str(shown).lower() if isinstance(shown, bool) else str(shown)
        rows.append(f"| `{flag_name(name)}` | `{environment_name(name)}` | {text} | {field.description} |")
    return "\n".join(rows)


def test_the_operations_page_lists_every_setting_as_it_is() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    found = re.search(r"<!-- settings: .*?-->\n(.*?)\n?<!-- /settings -->", page, re.DOTALL)
    assert found is not None
    assert found.group(1) == settings_table()
