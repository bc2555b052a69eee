"""The parts of docs/ that are made from the code; `make docs` writes them again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from support.differences import DIFFERENCES
from support.golden_differences import ROWS
from support.triton_flags import TRITON_FLAGS

from naiad.config.command_line import FIELDS_BY_FLAG
from naiad.config.experiment_config import ExperimentConfig, GuardConfig, RampStep, ShadowConfig
from naiad.config.parameters import parameters_with_values
from naiad.config.refused_flags import OTHER_FLAGS_BY_NAME
from naiad.config.server_config import GROUPS, default_text, environment_name, flag_name
from naiad.config.settings.backend_config import DEFAULT_MAX_BATCH_SIZE, WITHOUT_EFFECT
from naiad.config.support import FIELDS
from naiad.services.support import HTTP_ENDPOINTS, RPCS
from naiad.telemetry.metrics.table import TRITON_METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from naiad.services.support import CallSupport

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
TEMPLATE = ROOT / "docs" / "compatibility.template.md"
OPERATIONS = ROOT / "docs" / "operations.md"
VERSIONS = ROOT / "docs" / "versions.md"
SETTINGS = re.compile(r"(<!-- settings: .*?-->\n)(.*?)(\n?<!-- /settings -->)", re.DOTALL)
EXPERIMENT = re.compile(r"(<!-- experiment: .*?-->\n)(.*?)(\n?<!-- /experiment -->)", re.DOTALL)
EXPERIMENT_PARTS: dict[str, type[BaseModel]] = {
    "": ExperimentConfig,
    "ramp[].": RampStep,
    "shadow.": ShadowConfig,
    "guard.": GuardConfig,
}
_MADE_DEFAULTS = {"name": "the model's name", "baseline": "the lowest version named"}
"""Those of the fields of `experiment.json` that are made of something else."""
HOW_TO_REGENERATE = "write it again with `make docs`"


def compatibility_page() -> str:
    """The whole of docs/compatibility.md."""
    return TEMPLATE.read_text(encoding="utf-8").format(
        differences=_differences(is_older=False),
        older=_differences(is_older=True),
        rpcs=_calls("RPC", RPCS),
        endpoints=_calls("endpoint", HTTP_ENDPOINTS),
        flags="\n\n".join(f"### {title}\n\n{_flags(names)}" for title, names in TRITON_FLAGS.items()),
        backend_config=_table(("key", "of", "state", "note"), _backend_config()),
        fields=_table(
            ("field", "state", "note"),
            ((f"`{row.path}`", row.support.value, row.note) for row in FIELDS),
        ),
        parameters=_table(
            ("key", "value"), ((f"`{key}`", value) for key, value in parameters_with_values().items())
        ),
        metrics=_table(
            ("metric", "type", "labels", "there when", "note"),
            (
                (f"`{row.name}`", row.type, ", ".join(row.labels), row.condition or "always", row.note)
                for row in TRITON_METRICS
            ),
        ),
    )


def operations_page() -> str:
    """docs/operations.md with its table of settings as the code has it."""
    page = OPERATIONS.read_text(encoding="utf-8")
    return SETTINGS.sub(lambda found: f"{found[1]}{settings_table()}{found[3]}", page)


def settings_table() -> str:
    """One row a setting, from the fields of ServerConfig, in the order of the help."""
    return _table(
        ("flag", "variable", "default", "meaning"),
        (
            (
                f"`{flag_name(name)}`",
                f"`{environment_name(name)}`",
                default_text(field),
                field.description or "",
            )
            for group in GROUPS
            for name, field in group.model_fields.items()
        ),
    )


def versions_page() -> str:
    """docs/versions.md with its table of the fields of `experiment.json` as the code has it."""
    page = VERSIONS.read_text(encoding="utf-8")
    return EXPERIMENT.sub(lambda found: f"{found[1]}{experiment_table()}{found[3]}", page)


def experiment_table() -> str:
    """One row a field of `experiment.json`, those of its parts behind it."""
    return _table(
        ("field", "default", "meaning"),
        (
            (f"`{part}{name}`", _experiment_default(part + name, field), field.description or "")
            for part, model in EXPERIMENT_PARTS.items()
            for name, field in model.model_fields.items()
        ),
    )


def _experiment_default(path: str, field: FieldInfo) -> str:
    if path in _MADE_DEFAULTS or field.is_required():
        return _MADE_DEFAULTS.get(path, "required")
    default = field.get_default(call_default_factory=True, validated_data={})
    return "none" if default in (None, (), {}) else f"`{json.dumps(default)}`"


def _differences(*, is_older: bool) -> str:
    rows = [row for row in (*DIFFERENCES, *ROWS) if row.is_older == is_older]
    return "\n".join(_row(row.where, row.triton, row.naiad, row.why) for row in rows)


def _calls(what: str, rows: Sequence[CallSupport]) -> str:
    return _table((what, "state", "note"), ((f"`{row.name}`", row.state.value, row.note) for row in rows))


def _flags(names: Iterable[str]) -> str:
    return _table(("flag", "state", "note"), (_flag(name) for name in names))


def _flag(name: str) -> tuple[str, str, str]:
    if name in FIELDS_BY_FLAG:
        group = next(group for group in GROUPS if FIELDS_BY_FLAG[name] in group.model_fields)
        return f"`{name}`", "honoured", group.model_fields[FIELDS_BY_FLAG[name]].description or ""
    other = OTHER_FLAGS_BY_NAME[name]
    return f"`{name}`", other.state.value, other.note


def _backend_config() -> Iterable[tuple[str, str, str, str]]:
    """One row a key; what is known of all backends first."""
    for backend, reasons in WITHOUT_EFFECT.items():
        where = backend or "all backends"
        yield f"`{DEFAULT_MAX_BATCH_SIZE}`", where, "honoured", "as `--default-max-batch-size`, which wins"
        for key, reason in reasons.items():
            yield f"`{key}`", where, "accepted, without effect", reason


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([_row(*head), "|" + "---|" * len(head), *(_row(*row) for row in rows)])


def _row(*cells: str) -> str:
    """A row of a Markdown table; a bar within a cell would end it."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def write_pages() -> None:
    """Write all of them again."""
    PAGE.write_text(compatibility_page(), encoding="utf-8")
    OPERATIONS.write_text(operations_page(), encoding="utf-8")
    VERSIONS.write_text(versions_page(), encoding="utf-8")


if __name__ == "__main__":
    write_pages()
