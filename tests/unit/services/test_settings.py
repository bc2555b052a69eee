"""TraceSetting and LogSettings as a recorded Triton answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.services.settings import log_settings, trace_setting
from naiad.telemetry.log_settings import LogSettings
from naiad.telemetry.tracing import TraceManager, TraceMode, TraceSettings, parse_trace_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE_DEFAULTS = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "trace_mode": ["triton"],
    "log_frequency": ["0"],
    "trace_file": [""],
}
LOG_DEFAULTS = {
    "log_file": {"string_param": ""},
    "log_info": {"bool_param": True},
    "log_warning": {"bool_param": True},
    "log_error": {"bool_param": True},
    "log_verbose_level": {"uint32_param": 0},
    "log_format": {"string_param": "default"},
}


@pytest.fixture
def manager() -> Iterator[TraceManager]:
    made = TraceManager()
    yield made
    made.close()


def trace(manager: TraceManager, model: str = "", **settings: list[str]) -> dict[str, list[str]]:
    """Ask, in the protocol's messages, a server whose only model is `simple`."""
    message = pb.TraceSettingRequest(model_name=model)
    for name, values in settings.items():
        message.settings[name].value.extend(values)
    answer = trace_setting(manager, lambda name: name == "simple", message)
    return {name: list(setting.value) for name, setting in answer.settings.items()}


def log(settings: LogSettings, request: dict[str, Any]) -> dict[str, Any]:
    message = json_format.ParseDict({"settings": request}, pb.LogSettingsRequest())
    answer = json_format.MessageToDict(log_settings(settings, message), preserving_proto_field_name=True)
    listed: dict[str, Any] = answer["settings"]
    return listed


def test_trace_settings_are_listed_for_all_and_for_a_model(manager: TraceManager) -> None:
    assert trace(manager) == TRACE_DEFAULTS
    assert trace(manager, "simple") == TRACE_DEFAULTS


def test_an_unknown_model_is_refused_before_anything_else(manager: TraceManager) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        trace(manager, "nope", trace_rate=["x"])
    assert refused.value.message == "Request for unknown model : nope"


def test_trace_settings_are_changed_and_cleared(tmp_path: Path) -> None:
    manager = TraceManager(TraceSettings(file=str(tmp_path / "t.json")))
    everything = trace(manager, "simple", trace_level=["TENSORS", "TIMESTAMPS"], trace_rate=["7"])
    assert everything["trace_level"] == ["TIMESTAMPS", "TENSORS"]
    assert everything["trace_rate"] == ["7"]
    assert trace(manager)["trace_rate"] == ["1000"]
    assert trace(manager, "simple", trace_rate=[], trace_level=[]) == trace(manager)
    manager.close()


def test_a_wrong_rate_is_refused_in_tritons_words(manager: TraceManager) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        trace(manager, trace_rate=["x"])
    assert refused.value.message == "Unable to parse 'trace_rate', got: x"


def test_the_trace_file_cannot_be_changed(manager: TraceManager) -> None:
    with pytest.raises(UnsupportedError):
        trace(manager, trace_file=["/etc/passwd"])


def test_opentelemetrys_settings_are_listed_instead_of_the_files() -> None:
    settings = parse_trace_config(["mode=opentelemetry", "opentelemetry,url=http://c:1/v1/traces"], {})
    assert settings.mode is TraceMode.OPENTELEMETRY
    manager = TraceManager(settings)
    assert trace(manager) == {
        "trace_level": ["OFF"],
        "trace_rate": ["1000"],
        "trace_count": ["-1"],
        "trace_mode": ["opentelemetry"],
        "url": ["http://c:1/v1/traces"],
        "bsp_max_queue_size": ["2048"],
        "bsp_schedule_delay": ["5000"],
        "bsp_max_export_batch_size": ["512"],
    }
    manager.close()


def test_log_settings_are_listed_with_tritons_types() -> None:
    assert log(LogSettings(), {}) == LOG_DEFAULTS


def test_an_unknown_log_setting_is_overlooked_as_triton_does() -> None:
    assert log(LogSettings(), {"nope": {"bool_param": True}}) == LOG_DEFAULTS


def test_log_settings_are_changed() -> None:
    changed = log(
        LogSettings(),
        {
            "log_verbose_level": {"uint32_param": 2},
            "log_warning": {"bool_param": False},
            "log_format": {"string_param": "ISO8601"},
        },
    )
    assert changed == LOG_DEFAULTS | {
        "log_verbose_level": {"uint32_param": 2},
        "log_warning": {"bool_param": False},
        "log_format": {"string_param": "ISO8601"},
    }


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"log_verbose_level": {"string_param": "x"}}, "expect int32 for 'log_verbose_level'"),
        ({"log_info": {"uint32_param": 1}}, "expect boolean for 'log_info'"),
        ({"log_format": {}}, "expect string for 'log_format'"),
    ],
)
def test_a_log_setting_of_the_wrong_type_is_refused(request_: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        log(LogSettings(), request_)
    assert refused.value.message == text


def test_the_log_file_cannot_be_changed() -> None:
    with pytest.raises(UnsupportedError):
        log(LogSettings(), {"log_file": {"string_param": "/etc/passwd"}})
