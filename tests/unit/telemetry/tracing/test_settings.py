"""Trace settings: what the flag and an update may say, in Triton's words."""

from __future__ import annotations

import pytest

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.telemetry.tracing import TraceLevel, TraceMode, TraceSettings, parse_trace_config
from naiad.telemetry.tracing.settings import parse_changes


def test_no_entry_means_off_and_the_defaults_of_triton() -> None:
    assert parse_trace_config([], {}) == TraceSettings()
    assert TraceSettings().values() == {
        "trace_level": ("OFF",),
        "trace_rate": ("1000",),
        "trace_count": ("-1",),
        "trace_mode": ("triton",),
        "log_frequency": ("0",),
        "trace_file": ("",),
    }


def test_entries_of_triton_mode() -> None:
    entries = ["triton,file=/tmp/t,1.json", "triton,log-frequency=50", "rate=1", "rate=100", "count=7"]
    settings = parse_trace_config([*entries, "level=TIMESTAMPS", "level=tensors"], {})
    assert settings == TraceSettings(
        level=TraceLevel.TIMESTAMPS | TraceLevel.TENSORS,
        rate=100,
        count=7,
        log_frequency=50,
        file="/tmp/t,1.json",
    )
    assert settings.values()["trace_level"] == ("TIMESTAMPS", "TENSORS")


def test_level_off_beats_every_other_level() -> None:
    """As in Triton, whichever comes first."""
    assert parse_trace_config(["level=OFF", "level=TENSORS"], {}).level is TraceLevel.OFF
    assert parse_trace_config(["level=TENSORS", "level=off"], {}).level is TraceLevel.OFF


def test_entries_of_opentelemetry_mode() -> None:
    entries = ["opentelemetry,url=c:1", "opentelemetry,resource=a=1", "opentelemetry,resource=b=x,y"]
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "7", "OTEL_BSP_MAX_QUEUE_SIZE": "4096"}
    settings = parse_trace_config(
        [*entries, "mode=opentelemetry", "opentelemetry,bsp_max_queue_size=600"], environment
    )
    assert settings.mode is TraceMode.OPENTELEMETRY
    listed = settings.values()
    assert listed["url"] == ("c:1",)
    assert listed["resource"] == ("a=1", "b=x,y")
    assert listed["bsp_max_queue_size"] == ("600",), "the flag beats the environment"
    assert listed["bsp_schedule_delay"] == ("7",), "the environment beats the default"
    assert listed["bsp_max_export_batch_size"] == ("512",)
    assert "trace_file" not in listed
    assert "log_frequency" not in listed


def test_settings_of_the_other_mode_are_named() -> None:
    assert parse_trace_config(["triton,file=x", "mode=opentelemetry"], {}).unused == ("triton,file=x",)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            ",file=x",
            "No trace mode specified. --trace-config option format is <trace mode>,<setting>=<value>",
        ),
        ("rate", "--trace-config option format is '<trace mode>,<setting>=<value>'. Got rate"),
        ("rate=", "--trace-config option format is '<trace mode>,<setting>=<value>'. Got rate="),
        ("triton,=x", "--trace-config option format is '<trace mode>,<setting>=<value>'. Got triton,=x"),
        ("jaeger,url=x", "invalid value for trace mode option: jaeger. Available options are"),
        ("mode=jaeger", "invalid value for trace mode option: jaeger. Available options are"),
        ("level=LOUD", "invalid value for trace level option: LOUD"),
        ("rate=x", 'Bad option: "--trace-config rate". Expected a whole number from 0 to 2147483647, got x'),
        ("count=-2", 'Bad option: "--trace-config count"'),
        ("triton,log-frequency=-1", 'Bad option: "--trace-config triton,log-frequency"'),
        ("triton,rate=1", 'Bad option: "--trace-config triton,rate". The settings are file, log-frequency'),
        ("file=x", 'Bad option: "--trace-config file". The settings are level, rate, count, mode'),
    ],
)
def test_a_wrong_entry_is_refused(entry: str, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_trace_config([entry], {})
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (["bsp_max_queue_size=0"], "bsp_max_queue_size"),
        (["bsp_schedule_delay=soon"], "bsp_schedule_delay"),
        (["bsp_max_queue_size=10", "bsp_max_export_batch_size=11"], "is more than bsp_max_queue_size=10"),
        (["resource=novalue"], "resource=novalue, not KEY=VALUE"),
    ],
)
def test_wrong_options_of_opentelemetry_are_refused(entries: list[str], text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_trace_config(["mode=opentelemetry", *(f"opentelemetry,{entry}" for entry in entries)], {})
    assert text in refused.value.message


def test_changes_are_read_and_what_cannot_be_changed_is_named() -> None:
    changes, ignored = parse_changes(
        {
            "trace_level": ("TENSORS", "TIMESTAMPS"),
            "trace_rate": (" 5x",),
            "trace_count": (),
            "log_frequency": ("+9",),
            "trace_mode": ("opentelemetry",),
            "nonsense": ("1",),
        }
    )
    assert changes == {
        "level": TraceLevel.TENSORS | TraceLevel.TIMESTAMPS,
        "rate": 5,
        "count": None,
        "log_frequency": 9,
    }
    assert ignored == ["nonsense", "trace_mode"]


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("trace_rate", ["x"], "Unable to parse 'trace_rate', got: x"),
        ("trace_rate", ["1", "2"], "expect only 1 value for 'trace_rate'"),
        (
            "trace_rate",
            ["2147483648"],
            "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: 2147483648",
        ),
        (
            "trace_rate",
            ["-1"],
            "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: -1",
        ),
        ("trace_count", [""], "Unable to parse 'trace_count', got: "),
        ("trace_count", ["-2"], "Unable to parse 'trace_count'. Expecting value >= -1, got: -2"),
        (
            "trace_count",
            ["9" * 5000],
            "Unable to parse 'trace_count', value is out of range [ -1, 2147483647 ], got: " + "9" * 5000,
        ),
        ("log_frequency", ["often"], "Unable to parse 'log_frequency', got: often"),
        ("log_frequency", ["1", "2"], "expect only 1 value for 'log_frequency'"),
        ("trace_level", ["TIMESTAMPS", "OFF"], "Expect only one trace level 'OFF' is specified"),
        ("trace_level", ["timestamps"], "Unable to parse 'trace_level', got: timestamps"),
    ],
)
def test_a_wrong_change_is_refused_in_tritons_words(name: str, given: list[str], text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_changes({name: given})
    assert refused.value.message == text


def test_the_trace_file_cannot_be_changed_whatever_else_is_asked() -> None:
    with pytest.raises(UnsupportedError) as refused:
        parse_changes({"trace_rate": ["x"], "trace_file": []})
    assert refused.value.message == "trace file location can not be updated through network protocol"
