"""The server's settings: one definition of every flag, its environment variable, its default and its text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from naiad.config.settings.engine import EngineSettings
from naiad.config.settings.experiments import ExperimentSettings
from naiad.config.settings.grpc import GrpcConnectionSettings, GrpcSettings, GrpcTlsSettings
from naiad.config.settings.http import HttpSettings
from naiad.config.settings.limits import LimitSettings, SharedMemorySettings
from naiad.config.settings.observability import LogSettings, MetricsSettings, TraceSettings
from naiad.config.settings.profiling import ProfileSettings
from naiad.config.settings.refusals import refusal
from naiad.config.settings.repository import RepositorySettings, ServerSettings
from naiad.config.settings.scheduling import SchedulingSettings
from naiad.config.settings.tensorrt import TensorRtSettings
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    from naiad.config.settings.kinds import SettingsGroup

ENVIRONMENT_PREFIX = "NAIAD_"


# pydantic validates the fields of the last base first, and metrics_address needs http_address.
class ServerConfig(
    ProfileSettings,
    ExperimentSettings,
    TensorRtSettings,
    SharedMemorySettings,
    SchedulingSettings,
    LimitSettings,
    TraceSettings,
    MetricsSettings,
    LogSettings,
    GrpcConnectionSettings,
    GrpcTlsSettings,
    GrpcSettings,
    HttpSettings,
    EngineSettings,
    RepositorySettings,
    ServerSettings,
):
    """Everything `naiad serve` can be told: field `x_y` is flag `--x-y` and variable `NAIAD_X_Y`."""


GROUPS: tuple[type[SettingsGroup], ...] = tuple(reversed(ServerConfig.__bases__))
"""The groups in the order in which they are shown."""

_COLON_SEPARATED = frozenset({"model_repository", "load_model"})
"""Lists whose items hold no colon; in a variable, newlines part the items of every list."""


def flag_name(field: str) -> str:
    """`max_queue_size` is `--max-queue-size`; `server_id` is Triton's `--id`."""
    return "--id" if field == "server_id" else "--" + field.replace("_", "-")


def environment_name(field: str) -> str:
    """`max_queue_size` is `NAIAD_MAX_QUEUE_SIZE`."""
    return ENVIRONMENT_PREFIX + field.upper()


def is_list(field: str) -> bool:
    """Whether the flag may be given several times."""
    return str(ServerConfig.model_fields[field].annotation).startswith("tuple[")


def is_boolean(field: str) -> bool:
    """Whether the flag may stand alone, without a value."""
    return ServerConfig.model_fields[field].annotation is bool


def default_text(field: FieldInfo) -> str:
    """The default as the help and the docs show it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, bool):
        return str(default).lower()
    if default is None:
        return "automatic"
    return "none" if default in ("", ()) else str(default)


def server_config(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> ServerConfig:
    """The settings from flags that were given (by field name), then the environment, then the defaults.

    Raises:
        InvalidArgumentError: naming the flag or variable, its value and what is allowed.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for field in ServerConfig.model_fields:
        if field in flags:
            values[field] = flags[field]
        elif text := environment.get(environment_name(field)):  # empty is as good as not there
            values[field] = split_items(field, text) if is_list(field) else text
    try:
        return ServerConfig(**values)
    except ValidationError as error:
        wrong = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
        raise InvalidArgumentError("; ".join(_explain(detail, flags) for detail in wrong)) from None


def split_items(field: str, text: str) -> list[str]:
    """The items of a list in an environment variable: one a line, and names and paths also by colons."""
    lines = text.replace(os.pathsep, "\n") if field in _COLON_SEPARATED else text
    return [item.strip() for item in lines.splitlines() if item.strip()]


def _explain(detail: Any, flags: Mapping[str, Any]) -> str:
    field = str(detail["loc"][0])
    if detail["type"] == "missing":
        return f"{flag_name(field)} is required (or {environment_name(field)})"
    name = flag_name(field) if field in flags else environment_name(field)
    value = detail["input"]
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    text = f"{name}={shown}: {refusal(field, detail)}"
    if name.startswith(ENVIRONMENT_PREFIX) and str(value).startswith("tcp://"):
        text += (
            " (Kubernetes sets it for a service of that name: enableServiceLinks: false, or give the flag)"
        )
    return text
