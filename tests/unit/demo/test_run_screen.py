"""What the demo prints: on a pipe and on a terminal; its tables; the commands at its end."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from naiad.demo.figures import BatchFigures, PhotoFigures, StreamFigures
from naiad.demo.next_steps import next_steps
from naiad.demo.report import show_photo, show_streams
from naiad.demo.screen import Screen
from naiad_client import Box, DetectResult, Face, FrameResult, Timing

if TYPE_CHECKING:
    import pytest


class Clock:
    """Seconds, advanced by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def screen_on(*, terminal: bool, clock: Clock | None = None) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=60, legacy_windows=False)
    return Screen(console, clock or Clock()), out


def test_a_pipe_gets_plain_lines_however_long() -> None:
    screen, out = screen_on(terminal=False)
    screen.step("Label", "[word] " * 30 + "end")
    with screen.waiting("Label", "moves"):
        pass
    assert out.getvalue() == "Label         " + "[word] " * 30 + "end\n"


def test_a_pipe_hears_of_a_long_step_every_two_seconds() -> None:
    clock = Clock()
    screen, out = screen_on(terminal=False, clock=clock)
    with screen.counting("Video") as count:
        for done in range(1, 11):
            clock.now += 0.5
            count(done, 10, f"{done} done")
    assert out.getvalue().splitlines() == [
        "Video         4 of 10, 4 done",
        "Video         8 of 10, 8 done",
    ]


def test_a_terminal_sees_a_bar_with_its_note() -> None:
    screen, out = screen_on(terminal=True)
    with screen.counting("Video") as count:
        count(3, 10, "61.5 frames/s")
    assert "3/10" in out.getvalue()
    assert "61.5 frames/s" in out.getvalue()


def stream(version: str) -> StreamFigures:
    """200 frames of 1 to 200 ms in 2 s."""
    figures = StreamFigures(version, batches=BatchFigures({1: 80, 6: 20}))
    for number in range(1, 201):
        timing = Timing(1000, 2000, 3000, 4000, 5000, number * 500, 2)
        found = DetectResult([Face(Box(1, 2, 3, 4), 0.9)], "face_detector", version, 640, 480, timing)
        figures.add(FrameResult(number - 1, 0, found), now_us=number * 1000, seconds=number / 100)
    return figures


def test_the_stream_table_says_rate_percentiles_and_batches() -> None:
    screen, out = screen_on(terminal=False)
    show_streams(screen, [stream("1"), stream("2")], 8)
    rows = [line.split("  ") for line in out.getvalue().splitlines()]
    cells = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows if row[0]}
    assert cells["frames a second"] == ["100.0"] * 2
    assert cells["frames in which a face was found"] == ["200 of 200"] * 2
    assert cells["frames in a batch: average / largest"] == ["2.0 / 6"] * 2
    assert cells["ms from sending a frame to its faces"] == ["100.0 / 198.0"] * 2
    assert "50.0 / 99.0" in out.getvalue(), "the server's total"
    assert "4.0 / 4.0" in out.getvalue(), "running the model"


def test_the_photo_table_has_a_row_for_each_face_of_each_version() -> None:
    screen, out = screen_on(terminal=False)
    face = Face(Box(181.2, 64, 265, 171), 0.99891)
    show_photo(screen, [PhotoFigures("face_detector", version, [face], 5, 21.26) for version in ("1", "2")])
    rows = [line.split() for line in out.getvalue().splitlines() if line[:1] in {"1", "2"}]
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[0][-6:] == ["0.9989", "181", "64", "265", "171", "21.3"]


def test_the_next_commands_name_programs_by_path_or_by_name(tmp_path: Path) -> None:
    """A program is called by its bare name only if the PATH leads to this installation's."""
    python = tmp_path / "bin" / "python"
    by_path = next_steps(Path("out/models"), Path("out/a photo.jpg"), python=python, which=lambda _: None)
    other = next_steps(Path("m"), Path("p"), python=python, which=lambda name: f"/usr/bin/{name}")
    by_name = next_steps(Path("m"), Path("p"), python=python, which=lambda name: str(python.parent / name))
    assert shlex.split(by_path[0].command) == [
        str(python.with_name("naiad")),
        "serve",
        "--model-repository",
        "out/models",
    ]
    assert shlex.split(by_path[1].command)[-1].endswith("out/a photo.jpg")
    assert other[2].command == f"{python.with_name('naiad')} check m"
    assert by_name[2].command == "naiad check m"


def test_the_next_commands_exist() -> None:
    """Each program and each file of this installation that is named is there."""
    for step in next_steps(Path("models"), Path("photo.jpg"), which=lambda _: None):
        program, first, *_ = shlex.split(step.command)
        assert Path(program).is_file(), step
        if first.endswith(".py"):
            assert Path(first).is_file(), step


def test_paths_below_the_current_folder_are_shown_short(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(sys.executable).parent
    monkeypatch.chdir(folder.parent)
    step = next_steps(Path("models"), Path("photo.jpg"), which=lambda _: None)[0]
    assert step.command.split()[0] == f"{folder.name}/naiad"
