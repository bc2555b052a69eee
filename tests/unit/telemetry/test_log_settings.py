"""Log settings: what callers may change, in Triton's words."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.telemetry.log_settings import LogChoice, LogSettings, LogValue

DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def test_all_six_are_listed() -> None:
    assert LogSettings().get() == DEFAULTS
    assert LogSettings(LogChoice("json", 2), log_file="x.log").get() == DEFAULTS | {
        "log_file": "x.log",
        "log_format": "json",
        "log_verbose_level": 2,
    }


def test_a_change_is_told_once_and_only_if_there_is_one() -> None:
    told: list[LogChoice] = []
    settings = LogSettings(on_change=told.append)
    settings.update({"log_info": False, "log_verbose_level": 3, "log_format": "ISO8601"})
    settings.update({"log_info": False})
    assert told == [LogChoice("ISO8601", 3, info=False)]
    assert settings.get() == DEFAULTS | {
        "log_info": False,
        "log_verbose_level": 3,
        "log_format": "ISO8601",
    }


def test_sending_back_what_was_read_changes_nothing() -> None:
    """The text format is shown as "default", and must not become it by that."""
    settings = LogSettings()
    settings.update({name: value for name, value in settings.get().items() if name != "log_file"})
    assert settings.choice == LogChoice()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"log_info": 1}, "expect boolean for 'log_info'"),
        ({"log_warning": "true"}, "expect boolean for 'log_warning'"),
        ({"log_error": None}, "expect boolean for 'log_error'"),
        ({"log_verbose_level": "x"}, "expect int32 for 'log_verbose_level'"),
        ({"log_verbose_level": True}, "expect int32 for 'log_verbose_level'"),
        ({"log_format": 1}, "expect string for 'log_format'"),
        ({"log_format": "XML"}, "invalid argument for log_format, got: XML"),
    ],
)
def test_a_wrong_value_is_refused_and_nothing_is_changed(
    changes: dict[str, LogValue | None], text: str
) -> None:
    settings = LogSettings()
    with pytest.raises(InvalidArgumentError) as refused:
        settings.update({"log_info": False} | changes)
    assert refused.value.message == text
    assert settings.get() == DEFAULTS


def test_the_log_file_cannot_be_changed() -> None:
    with pytest.raises(UnsupportedError) as refused:
        LogSettings().update({"log_file": "/etc/passwd"})
    assert refused.value.message == "log file location can not be updated through network protocol"


def test_a_setting_that_does_not_exist_is_overlooked_and_logged() -> None:
    settings = LogSettings()
    with capture_logs() as logs:
        settings.update({"nope": True})
    assert settings.get() == DEFAULTS
    assert [(entry["event"], entry["ignored"]) for entry in logs] == [
        ("log settings that do not exist", ["nope"])
    ]


def test_an_unknown_format_of_the_flag_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="--log-format=XML: the formats are text, json"):
        LogSettings(LogChoice("XML"))
