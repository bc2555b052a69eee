"""The examples run as a reader would run them, against a server on a real socket."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def test_stream_frames(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each frame of a video, in order."""
    cv2 = pytest.importorskip("cv2")
    np = pytest.importorskip("numpy")
    video = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for level in range(5):
        writer.write(np.full((48, 64, 3), level * 50, np.uint8))
    writer.release()
    assert main_of("stream_frames")([video, "--address", address]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" after ")[0] for line in lines] == [f"frame {i}: 2 faces" for i in range(5)]


@pytest.mark.parametrize("name", ["detect_photo", "detect_aio", "stream_frames", "triton_client"])
def test_each_example_is_short_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At most 40 lines, and --help works, which imports all it needs."""
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= MAX_LINES
    with pytest.raises(SystemExit) as caught:
        main_of(name)(["--help"])
    assert caught.value.code == 0
    assert "--address" in capsys.readouterr().out
