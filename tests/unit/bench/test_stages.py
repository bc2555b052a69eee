"""The stages of a small request are measured on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import stages

if TYPE_CHECKING:
    import pytest


def test_every_stage_of_a_small_request_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "ROUNDS", 1)
    monkeypatch.setattr(stages, "CALLS", 10)
    stages.main()
    told = capsys.readouterr().out
    for stage in (
        "frames to call",
        "find the plan",
        "the request's views",
        "run inline",
        "the session's run",
        "write the reply",
    ):
        assert stage in told
