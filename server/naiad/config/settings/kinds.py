"""What the settings' values are: numbers with bounds, Triton's booleans, and the base of every group."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_TRUE = frozenset({"true", "on", "1"})
_FALSE = frozenset({"false", "off", "0"})


class SettingsGroup(BaseModel):
    """Some settings that belong together; `TITLE` heads them in the help and in the docs."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    TITLE: ClassVar[str]


def parse_boolean(value: Any) -> Any:
    """A boolean as tritonserver takes it; what is no text is left to pydantic.

    Raises:
        ValueError: another text, with those that are taken.
    """
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("it must be true, on, 1, false, off or 0")
    return word in _TRUE


def _number_or_boolean(value: Any) -> Any:
    """`--log-verbose` takes a number, and as in Triton also true for 1 and false for 0."""
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return int(parse_boolean(value))
    return value


def lower_case(value: Any) -> Any:
    """A choice as tritonserver takes it, in any case."""
    return value.strip().lower() if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(parse_boolean)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""0 switches it off."""
Verbosity = Annotated[int, BeforeValidator(_number_or_boolean), Field(ge=0)]
Choice = BeforeValidator(lower_case)
"""Marks a choice whose words may be in any case."""
