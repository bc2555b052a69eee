"""`naiad demo` as a new user runs it: a process on a pipe, in a folder of its own."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from support.processes import naiad_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
FRAMES = 40


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=200, check=False, env=naiad_environment()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """One run, looked at by many tests."""
    return run(folder, sys.executable, "-m", "naiad", "demo", "run", f"--frames={FRAMES}")


def test_it_succeeds_and_its_last_words_are_the_commands_to_try(
    demo: subprocess.CompletedProcess[str],
) -> None:
    assert (demo.returncode, demo.stderr) == (0, "")
    commands = [line.strip() for line in demo.stdout.splitlines()[-6:] if not line.startswith("  #")]
    assert ["serve" in commands[0], "detect_photo" in commands[1], "check" in commands[2]] == [True] * 3


def test_its_tables_hold_the_figures(demo: subprocess.CompletedProcess[str]) -> None:
    """The face is found by both versions; the better one finds it in (nearly) all frames.

    Batches are tried, and where larger ones bring nothing, as on a CPU, most frames run alone.
    """
    lines = demo.stdout.splitlines()
    rows = [line.split() for line in lines if line[:2] in {"1 ", "2 "}]
    assert [row[0] for row in rows] == ["1", "2"]
    assert all(float(row[4]) > 0.9 for row in rows), "scores"
    cells = {line[:36].strip(): line[36:].replace("/", " ").split() for line in lines}
    assert all(float(rate) > 0 for rate in cells["frames a second"])
    assert int(cells["frames in which a face was found"][3]) >= 0.9 * FRAMES
    average, largest = map(float, cells["frames in a batch: average / largest"][2:4])
    assert 1 <= average <= largest
    assert 2 <= largest <= 8
    low, high = map(float, cells["ms from sending a frame to its faces"][:2])
    assert 0 < low <= high


def test_its_pictures_are_there(demo: subprocess.CompletedProcess[str], folder: Path) -> None:
    for name in ("astronaut.jpg", "stream.jpg", "photo.jpg"):
        picture = cv2.imread(str(folder / "demo-output" / name))
        assert picture is not None, name
        assert min(picture.shape[:2]) >= 480, name


def test_its_server_ended_in_good_order(demo: subprocess.CompletedProcess[str], folder: Path) -> None:
    last = (folder / "demo-output" / "server.log").read_text().splitlines()[-1]
    assert json.loads(last)["event"] == "stopped"


def test_the_check_it_recommends_works_as_pasted(
    demo: subprocess.CompletedProcess[str], folder: Path
) -> None:
    checked = run(folder, *shlex.split(demo.stdout.splitlines()[-1]))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "face_detector" in checked.stdout


def test_a_second_build_changes_nothing_and_says_so(
    demo: subprocess.CompletedProcess[str], folder: Path
) -> None:
    command = [sys.executable, "-m", "naiad", "demo", "build"]
    again = run(folder, *command, "demo-output/model_repository")
    assert "up to date" in again.stdout
    fresh = run(folder, *command, "elsewhere")
    assert "built face_detector" in fresh.stdout
    assert "elsewhere/face_detector/2/model.onnx" in fresh.stdout
    assert (fresh.returncode, again.returncode) == (0, 0)


def test_a_wrong_folder_is_one_clear_line(folder: Path) -> None:
    (folder / "file").write_text("")
    failed = run(folder, sys.executable, "-m", "naiad", "demo", "build", "file")
    assert failed.returncode == 1
    assert "'file' is a file, a folder is needed" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_under_way_stops_its_server_too(
    demo: subprocess.CompletedProcess[str], folder: Path, number: signal.Signals
) -> None:
    """The server writes its log to the end: its last event says that it ended, whoever ended it."""
    command = [sys.executable, "-m", "naiad", "demo", "run", "--frames=100000"]
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=naiad_environment(),
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "listens on" in line)
        assert line
        (child,) = children(process.pid)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        assert (process.returncode, "stopped by Ctrl-C" in errors) == (130, True)
    # A process that is told to end by its parent's end may take a moment: wait for it, not for a time.
    wait_for_end(child)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.is_file():
        pytest.skip("this system does not list a process's children")
    return [int(text) for text in listed.read_text().split()]


def wait_for_end(pid: int) -> None:
    """Return when a process of that id is gone; the test's own time limit is the limit."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(60_000), f"the server, process {pid}, outlived the demo"
    finally:
        os.close(handle)
