"""The INT8 calibration table that a config names: a file beside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import UnsupportedError
from naiad.runtime.tensorrt.options import CALIBRATION_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def with_calibration_table(options: Mapping[str, str], model: Path) -> dict[str, str]:
    """The options, the table named by its whole path: the engine would look for it in the cache's folder.

    Args:
        options: the provider's.
        model: the model file.

    Raises:
        UnsupportedError: there is no such file beside the model file.
    """
    name = options.get(CALIBRATION_TABLE)
    if name is None:
        return dict(options)
    table = model.parent / name
    if not table.is_file():
        raise UnsupportedError(f"int8_calibration_table_name '{name}' is not beside the model file")
    return {**options, CALIBRATION_TABLE: str(table.resolve())}
