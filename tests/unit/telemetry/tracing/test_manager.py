"""Which requests are traced, and which settings are in force for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.clock import FakeClock
from support.traces import call, identities, run

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.telemetry.tracing import TraceLevel, TraceManager, TraceMode, TraceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def manager(tmp_path: Path, clock: FakeClock) -> Iterator[TraceManager]:
    """Every request, into `t.json`."""
    made = TraceManager(settings(tmp_path), clock=clock)
    yield made
    made.close()


def settings(folder: Path, rate: int = 1, count: int = -1, log_frequency: int = 0) -> TraceSettings:
    return TraceSettings(TraceLevel.TIMESTAMPS, rate, count, log_frequency, str(folder / "t.json"))


def test_off_traces_nothing_and_starts_no_thread() -> None:
    off = TraceManager()
    assert not off.active
    assert off.begin("simple", {}) is None
    assert off._writer._thread is None
    off.close()


def test_every_nth_request_is_traced(tmp_path: Path, clock: FakeClock) -> None:
    manager = TraceManager(settings(tmp_path, rate=3), clock=clock)
    assert [call(manager, clock) for _ in range(7)] == [False, False, True, False, False, True, False]
    manager.close()
    assert identities(tmp_path / "t.json") == [1, 2]


def test_count_ends_tracing_and_writes_the_traces_to_an_indexed_file(
    tmp_path: Path, clock: FakeClock
) -> None:
    """As the protocol says, whatever log_frequency is; and the next request costs one comparison again."""
    manager = TraceManager(settings(tmp_path, count=2), clock=clock)
    first, second = manager.begin("simple", {}), manager.begin("simple", {})
    assert first is not None
    assert second is not None
    assert not manager.active
    assert manager.get()["trace_count"] == ("0",)
    run(second, clock)
    run(first, clock)
    manager.close()
    assert identities(tmp_path / "t.json.0") == [2, 1]
    assert not (tmp_path / "t.json").exists()


def test_log_frequency_makes_a_file_of_so_many_traces(tmp_path: Path, clock: FakeClock) -> None:
    """What is left at the end has an indexed file too."""
    manager = TraceManager(settings(tmp_path, log_frequency=2), clock=clock)
    for _ in range(5):
        call(manager, clock)
    manager.close()
    assert [identities(tmp_path / f"t.json.{index}") for index in range(3)] == [[1, 2], [3, 4], [5]]
    assert not (tmp_path / "t.json").exists()


def test_an_update_writes_what_was_collected(tmp_path: Path, manager: TraceManager, clock: FakeClock) -> None:
    """And what follows is added to the same array."""
    call(manager, clock)
    manager.update("", {"trace_rate": ["2"]})
    call(manager, clock)
    call(manager, clock)
    manager.close()
    assert identities(tmp_path / "t.json") == [1, 2]


def test_a_trace_begun_before_an_update_is_written_with_its_own_settings(
    tmp_path: Path, manager: TraceManager, clock: FakeClock
) -> None:
    begun = manager.begin("simple", {})
    assert begun is not None
    manager.update("", {"trace_level": ["OFF"]})
    assert not manager.active
    run(begun, clock)
    manager.close()
    assert identities(tmp_path / "t.json") == [1]


def test_a_model_follows_the_global_settings_in_what_it_has_not_set(manager: TraceManager) -> None:
    """The scenario of Triton's own test of clearing."""
    manager.update("simple", {"trace_rate": ["12"], "log_frequency": ["34"]})
    manager.update("", {"trace_rate": ["56"], "trace_count": ["78"], "trace_level": ["OFF"]})
    model = manager.get("simple")
    assert (model["trace_rate"], model["trace_count"], model["trace_level"]) == (("12",), ("78",), ("OFF",))
    manager.update("", {"trace_rate": [], "trace_count": []})
    assert manager.get()["trace_rate"] == ("1",), "back to the command line's"
    assert manager.get()["trace_level"] == ("OFF",)
    assert manager.get("simple")["trace_count"] == ("-1",)
    manager.update("simple", {"trace_rate": [], "trace_level": []})
    assert manager.get("simple") == {**manager.get(), "log_frequency": ("34",)}
    manager.update("simple", {"log_frequency": []})
    assert manager.get("simple") == manager.get()
    assert manager.get("other") == manager.get()


def test_a_model_can_be_traced_alone(manager: TraceManager, clock: FakeClock) -> None:
    manager.update("", {"trace_level": ["OFF"]})
    manager.update("simple", {"trace_level": ["TIMESTAMPS"]})
    assert manager.active
    assert not call(manager, clock, "other")
    assert call(manager, clock, "simple")


def test_what_is_left_of_a_count_outlives_other_updates(manager: TraceManager, clock: FakeClock) -> None:
    manager.update("", {"trace_count": ["5"]})
    call(manager, clock)
    manager.update("", {"log_frequency": ["9"]})
    assert manager.get()["trace_count"] == ("4",)


def test_an_update_that_could_trace_nothing_is_refused_and_changes_nothing(manager: TraceManager) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        manager.update("", {"log_frequency": ["7"], "trace_rate": ["0"]})
    assert refused.value.message == "Attempting to set invalid trace setting :sample rate must be non-zero"
    assert manager.get()["log_frequency"] == ("0",)


def test_without_a_file_tracing_cannot_be_switched_on() -> None:
    manager = TraceManager()
    with pytest.raises(InvalidArgumentError) as refused:
        manager.update("", {"trace_level": ["TIMESTAMPS"]})
    assert refused.value.message == "Attempting to set invalid trace setting :trace file name is not given"
    manager.update("", {"trace_rate": ["5"]})
    assert manager.get()["trace_rate"] == ("5",)
    manager.close()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            TraceSettings(level=TraceLevel.TENSORS),
            "trace file name is not given (--trace-config triton,file=",
        ),
        (TraceSettings(level=TraceLevel.TENSORS, rate=0, file="t.json"), "sample rate must be non-zero"),
        (TraceSettings(file="/no/such/folder/t.json"), "there is no folder /no/such/folder"),
        (TraceSettings(file="/tmp"), "/tmp: it is a folder"),
    ],
)
def test_a_start_that_could_trace_nothing_is_refused_with_the_reason(wrong: TraceSettings, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        TraceManager(wrong)
    assert text in refused.value.message


def test_opentelemetry_without_its_packages_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "naiad.telemetry.tracing.otel", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UnsupportedError) as refused:
        TraceManager(TraceSettings(mode=TraceMode.OPENTELEMETRY))
    assert "pip install 'naiad[otel]'" in refused.value.message


def test_closing_twice_and_finishing_late_do_no_harm(manager: TraceManager, clock: FakeClock) -> None:
    late = manager.begin("simple", {})
    assert late is not None
    manager.close()
    run(late, clock)
    manager.close()
    assert manager.begin("simple", {}) is None
