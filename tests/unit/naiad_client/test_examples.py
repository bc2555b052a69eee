"""The examples run as a reader would run them, against a server on a real socket."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.fake_vision_server import BAD_IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).resolve().parents[3] / "clients" / "python" / "examples"
MAX_LINES = 40


def main_of(name: str) -> Callable[[list[str]], int]:
    """The `main` of an example."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], int] = module.main
    return main


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """A file; the fake server does not look into it."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8")
    return str(path)


def test_detect_photo(address: str, photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of("detect_photo")([photo, "--address", address, "--model", "yunet"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 faces by yunet/1 in 15 us",
        "0.750  1  2  3  4",
        "0.500  1  2  3  4",
    ]


def test_detect_photo_says_why_it_failed(
    address: str, photo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_of("detect_photo")([photo, "--address", address, "--model", "missing"]) == 1
    assert "NOT_FOUND: no model 'missing'" in capsys.readouterr().err


def test_detect_aio(address: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(BAD_IMAGE)
    main = main_of("detect_aio")
    assert main([photo, photo, "--address", address]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{photo}: 2 faces, in a batch of 2"] * 2
    assert main([photo, str(bad), "--address", address]) == 1
    assert "INVALID_ARGUMENT: cannot decode" in capsys.readouterr().out


def test_stream_frames(address: str, video: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each frame of a video, in order."""
    assert main_of("stream_frames")([video, "--address", address]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" after ")[0] for line in lines] == [f"frame {i}: 2 faces" for i in range(5)]


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Five frames."""
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in range(5):
        writer.write(np.full((48, 64, 3), level * 50, np.uint8))
    writer.release()
    return path


def test_detect_folder(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in (("a.jpg", b"x"), ("b.PNG", BAD_IMAGE), ("notes.txt", b"x")):
        (tmp_path / name).write_bytes(data)
    assert main_of("detect_folder")([str(tmp_path), "--address", address]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("a.jpg")] == ["a.jpg: 2 face(s)"]
    assert any(line.startswith("b.PNG: INVALID_ARGUMENT") for line in lines)
    assert not any("notes" in line for line in lines)


def test_annotate_video(address: str, video: str, tmp_path: Path) -> None:
    """As many frames come out as went in, drawn on."""
    cv2 = pytest.importorskip("cv2")
    output = str(tmp_path / "out.avi")
    assert main_of("annotate_video")([video, output, "--address", address]) == 0
    capture = cv2.VideoCapture(output)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 5
    assert frames[0].max() > 100, "the first frame was black"


def test_webcam(
    address: str, video: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The camera is a file: what was read is either answered, dropped or skipped."""
    cv2 = pytest.importorskip("cv2")
    opened = cv2.VideoCapture(video)
    monkeypatch.setattr(cv2, "VideoCapture", lambda camera: opened)
    assert main_of("webcam")(["--address", address]) == 0
    *results, account = capsys.readouterr().out.splitlines()
    counts = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", account)}
    assert counts["sent"] + counts["skipped"] == 5
    assert counts["answered"] == len(results)
    assert counts["in_flight"] == 0


def test_compare_versions(address: str, photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of("compare_versions")([photo, "3", "4", "--address", address]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"asked {asked}, answered only/{told}: 2 face(s), best 0.750, 0.0 ms"
        for asked, told in (("3", 3), ("4", 4), ("none", 1))
    ]


EXAMPLE_NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_each_example_is_short_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At most 40 lines, and --help works, which imports all it needs."""
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= MAX_LINES
    with pytest.raises(SystemExit) as caught:
        main_of(name)(["--help"])
    assert caught.value.code == 0
    assert "--address" in capsys.readouterr().out
