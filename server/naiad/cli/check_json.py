"""An inspection as JSON: the fields of `naiad.lifecycle.inspection`, by name.

| key | value |
|---|---|
| format | 1; another number once a key is renamed or removed |
| ok | whether nothing is broken; the exit code is 0 then, else 1 |
| engine | `EngineReport`: ONNX Runtime, its execution providers, GPUs, CPU threads, the settings used |
| repositories | list of `RepositoryReport`: path, models, problem or null, notes |
| models | list of `ModelReport`, sorted by name, each with `ok`, a problem or null, and its versions |
| models[].versions[] | `VersionReport`: `plan` if it would be loaded, else `problem` and what the graph has |
| …plan.proposals[] | `Proposal`: what the model could be declared as, and `config`, the text for it |
| models[].experiment | `ExperimentReport` or null: `plan` if it would be carried out, else `problem` |
| …problem | `stage` (a value of `Stage`), `reason`, `advice` |

Shapes are lists of numbers in which -1 is any size; enums are their values; paths are text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from naiad.lifecycle.inspection import Inspection, ModelReport
from naiad.vision.recognise import Proposal

FORMAT = 1


def to_json(inspection: Inspection) -> str:
    """The inspection as an indented JSON object."""
    head = {"format": FORMAT, "ok": inspection.ok}
    return json.dumps(head | plain(inspection), indent=2) + "\n"


def plain(value: Any) -> Any:
    """A report for `json.dumps`: dataclasses to objects, tuples to lists, enums to their values."""
    if is_dataclass(value):
        content = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, ModelReport):
            return {"name": value.name, "ok": value.ok} | content
        return content | {"config": value.config} if isinstance(value, Proposal) else content
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return value
