"""Trace and log settings as Triton's messages; who calls is the front end's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.telemetry.log_settings import LogSettings, LogValue
    from naiad.telemetry.tracing import TraceManager


def trace_setting(
    manager: TraceManager, known: Callable[[str], bool], message: pb.TraceSettingRequest
) -> pb.TraceSettingResponse:
    """Change what the message names, and answer the settings that are then in force.

    Args:
        manager: whose settings.
        known: whether a version of the model of that name is ready.
        message: the settings to change, of one model or of all.

    Raises:
        InvalidArgumentError: the model is not known, or a value is wrong.
        UnsupportedError: the trace file was to be changed.
    """
    model = message.model_name
    if model and not known(model):
        raise InvalidArgumentError(f"Request for unknown model : {model}")
    if message.settings:
        manager.update(model, {name: tuple(setting.value) for name, setting in message.settings.items()})
    answer = pb.TraceSettingResponse()
    for name, values in manager.get(model).items():
        answer.settings[name].value.extend(values)
    return answer


def log_settings(settings: LogSettings, message: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
    """Change what the message names, and answer all settings.

    Raises:
        InvalidArgumentError: a value has the wrong type, or names no format.
        UnsupportedError: the log file was to be changed.
    """
    if message.settings:
        settings.update({name: _value(setting) for name, setting in message.settings.items()})
    answer = pb.LogSettingsResponse()
    for name, value in settings.get().items():
        if isinstance(value, bool):
            answer.settings[name].bool_param = value
        elif isinstance(value, int):
            answer.settings[name].uint32_param = value
        else:
            answer.settings[name].string_param = value
    return answer


def _value(setting: pb.LogSettingsRequest.SettingValue) -> LogValue | None:
    kind = setting.WhichOneof("parameter_choice")
    if kind is None:
        return None
    value: LogValue = getattr(setting, kind)
    return value
