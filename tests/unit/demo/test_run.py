"""The demo as a whole where a step fails, and its judgement of answers."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from support.repositories import add_model
from support.vision_models import BOX, DETECTOR_CONFIG, brightness_detector

from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.demo.figures import PhotoFigures, StreamFigures
from naiad.demo.run import DemoSettings, run_demo
from naiad.demo.screen import Screen
from naiad.demo.server_process import serve_command
from naiad.demo.tour import check_same, check_stream, checked_photo
from naiad_client import Box, DetectResult, Face, Timing

if TYPE_CHECKING:
    from pathlib import Path

TIMING = Timing(0, 0, 0, 0, 0, 0, 1)
FACE = Face(Box(10, 20, 30, 40), 0.9)
DIES = """print('{"event": "ready", "level": "info", "grpc": "127.0.0.1:1"}', flush=True); exit(5)"""


@pytest.fixture
def screen() -> Screen:
    return Screen(Console(file=io.StringIO()))


def test_a_server_that_cannot_start_ends_the_demo_with_its_log(tmp_path: Path, screen: Screen) -> None:
    command = [sys.executable, "-c", "print('no engine here'); exit(3)"]
    with pytest.raises(InternalError, match=r"exit code 3 before it was ready(.|\n)*no engine here"):
        run_demo(DemoSettings(tmp_path, 1), screen, command)


def test_a_server_that_dies_under_the_calls_ends_the_demo_with_its_log(
    tmp_path: Path, screen: Screen
) -> None:
    """The user reads that the server ended, not that a connection was refused."""
    with pytest.raises(InternalError, match=r"the server ended with exit code 5\n(.|\n)*ready"):
        run_demo(DemoSettings(tmp_path, 1), screen, [sys.executable, "-c", DIES])


def test_a_photo_without_a_face_ends_the_demo(tmp_path: Path, screen: Screen) -> None:
    """A real server whose detector is blind: nothing scores above its threshold."""
    threshold = DETECTOR_CONFIG.replace('string_value: "0"', 'string_value: "0.99"')
    add_model(tmp_path / "blind", "face_detector", {1: brightness_detector()}, threshold)
    command = serve_command(tmp_path / "blind")
    with pytest.raises(InternalError, match="face_detector version 1 finds no face in the photo"):
        run_demo(DemoSettings(tmp_path / "out", 1), screen, command)


def test_a_model_that_is_missing_ends_the_demo_with_the_servers_words(tmp_path: Path, screen: Screen) -> None:
    """The detector has no version 2: the server lives, its answer and its log are told."""
    add_model(tmp_path / "half", "face_detector", {1: brightness_detector()}, DETECTOR_CONFIG)
    command = serve_command(tmp_path / "half")
    with pytest.raises(InternalError, match=r"a call to the server failed: (.|\n)*server.log"):
        run_demo(DemoSettings(tmp_path / "out", 1), screen, command)


def test_a_file_in_place_of_the_output_folder_is_told(tmp_path: Path, screen: Screen) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgumentError, match=r"--output=.*file: File exists"):
        run_demo(DemoSettings(tmp_path / "file"), screen)


def test_a_stream_without_frames_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="--frames=0: at least 1"):
        DemoSettings(frames=0)


def test_an_answer_by_another_version_is_no_finding() -> None:
    answer = DetectResult([FACE], "face_detector", "2", 8, 8, TIMING)
    with pytest.raises(InternalError, match="version 1 of face_detector was asked, version 2 answered"):
        checked_photo([answer], 1)


def test_a_stream_that_lost_frames_or_faces_is_no_success() -> None:
    with pytest.raises(InternalError, match="10 frames were sent, 9 came back"):
        check_stream(StreamFigures("2", frames=9, with_face=9), 10, 0.9)
    with pytest.raises(InternalError, match="a face in 8 of 10 frames, at least 90% were due"):
        check_stream(StreamFigures("2", frames=10, with_face=8), 10, 0.9)
    check_stream(StreamFigures("2", frames=10, with_face=9), 10, 0.9)


def test_two_clients_must_get_the_same_box() -> None:
    findings = [PhotoFigures("face_detector", "2", [FACE], 1, 1.0)]
    check_same([10.4, 20, 30, 39.5], "2", findings)
    with pytest.raises(InternalError, match=r"tritonclient gets the box \[12.0, 20"):
        check_same([12.0, 20, 30, 40], "2", findings)
    with pytest.raises(InternalError, match="answered by version 3"):
        check_same(list(BOX), "3", findings)
