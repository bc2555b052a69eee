"""`naiad detect`, `naiad embed` and `naiad video` against a server on a real socket."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest
from support.fake_vision_server import FakeVisionService, serving
from typer.testing import CliRunner

from naiad.cli import client_side
from naiad.cli.main import app
from naiad.core.errors import InvalidArgumentError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = (64, 48)


@pytest.fixture
def service() -> FakeVisionService:
    """What the fake server was asked."""
    return FakeVisionService()


@pytest.fixture
def address(service: FakeVisionService) -> Iterator[str]:
    with serving(service) as address:
        yield address


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Thirty black frames: more than are in flight."""
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIZE)
    for _ in range(30):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    return path


def run(*arguments: object) -> Any:
    """The command's result; what it raises is raised."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_detect_says_what_is_in_each_photo(photo: Path, address: str) -> None:
    result = run("detect", photo, "--server", address, "--model", "yunet")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{photo}: 2 faces by yunet/1 in 0.0 ms",
        "  0.750  1 2 3 4",
        "  0.500  1 2 3 4",
    ]


def test_json_is_one_object_a_line(photo: Path, address: str) -> None:
    result = run("detect", photo, photo, "--server", address, "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == second
    assert (first["file"], first["model"], first["version"]) == (str(photo), "only", "1")
    assert first["faces"][0]["box"] == [1, 2, 3, 4.5]
    assert len(first["faces"][0]["landmarks"]) == 5
    assert "embedding" not in first["faces"][0]
    assert first["timing"]["batch_size"] == 2


def test_embed_gives_the_vectors(photo: Path, address: str, service: FakeVisionService) -> None:
    result = run(
        "embed", photo, "--server", address, "--embedder", "mobilefacenet", "--score-threshold", 0.3, "--json"
    )
    told = json.loads(result.stdout)
    assert [face["embedding"] for face in told["faces"]] == [[0.75], [0.5]]
    assert (told["embedder"], told["model"]) == ("mobilefacenet", "only")
    assert service.requests[0].finder.options.score_threshold == pytest.approx(0.3)
    assert "  0.750  1 2 3 4  1 numbers" in run("embed", photo, "--server", address).stdout


def test_a_bad_photo_costs_the_others_nothing(photo: Path, address: str, tmp_path: Path) -> None:
    """The exit code and standard error say so."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"bad")
    result = run("detect", bad, tmp_path / "none.jpg", photo, "--server", address)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith(f"{photo}: 2 faces")
    assert f"{bad}: INVALID_ARGUMENT: cannot decode image" in result.stderr
    assert f"{tmp_path / 'none.jpg'}: No such file or directory\n" in result.stderr


def test_a_photo_that_the_model_fails_on_costs_the_others_nothing(photo: Path, tmp_path: Path) -> None:
    class Fragile(FakeVisionService):
        def Detect(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            if request.image.encoded == b"ugly":
                context.abort(grpc.StatusCode.INTERNAL, "the model fell over")
            return super().Detect(request, context)

    ugly = tmp_path / "ugly.jpg"
    ugly.write_bytes(b"ugly")
    with serving(Fragile()) as address:
        result = run("detect", ugly, photo, "--server", address)
    assert result.exit_code == 1
    assert f"{ugly}: INTERNAL: the model fell over" in result.stderr
    assert result.stdout.startswith(f"{photo}: 2 faces")


def test_pictures_are_written_drawn_on(photo: Path, address: str, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder"
    assert run("detect", photo, "--server", address, "--output", output).exit_code == 0
    drawn = cv2.imread(str(output / "photo.jpg"))
    assert drawn is not None
    assert drawn.max() > 100


@pytest.mark.parametrize(("second", "output"), [("photo.jpg", "."), ("other/photo.png", "new")])
def test_no_photo_is_written_over(photo: Path, tmp_path: Path, second: str, output: str) -> None:
    """Neither a photo by its own drawing, nor one drawing by another's; said before anybody is asked."""
    other = tmp_path / second
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(b"another")
    with pytest.raises(InvalidArgumentError, match="is one of the photos|would both be written as"):
        run("detect", photo, other, "--server", "nobody:1", "--output", tmp_path / output)
    assert other.read_bytes() == b"another"


def test_a_folder_stands_for_the_photos_in_it(photo: Path, address: str, tmp_path: Path) -> None:
    """By name, and nothing else that lies there."""
    (tmp_path / "a.JPEG").write_bytes(photo.read_bytes())
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "folder.png").mkdir()
    result = run("detect", tmp_path, "--server", address, "--json")
    assert result.exit_code == 0
    told = [json.loads(line)["file"] for line in result.stdout.splitlines()]
    assert told == [str(tmp_path / "a.JPEG"), str(photo)]


def test_a_folder_without_photos_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="has no .bmp, .jpeg, .jpg, .png, .webp files"):
        run("detect", tmp_path, "--server", "nobody:1")


def test_nobody_there_says_how_to_start_a_server(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_side, "READY_TIMEOUT_S", 0.2)
    with serving(FakeVisionService()) as address:
        pass
    with pytest.raises(
        UnavailableError, match=rf"no server answers at {address}.*naiad serve --model-repository"
    ):
        run("detect", photo, "--server", address)


@pytest.mark.parametrize("command", ["detect", "embed"])
def test_what_the_server_refuses_of_all_photos_is_one_error_and_none_is_sent(
    photo: Path, command: str
) -> None:
    """Such as that none of several detectors was named."""

    class Two(FakeVisionService):
        def _open(self, options: Any, context: Any) -> None:
            super()._open(options, context)
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "model_name is empty and there are 2 detectors: a, b"
            )

    service = Two()
    with (
        serving(service) as address,
        pytest.raises(InvalidArgumentError, match=rf"2 detectors: a, b \(at {address}; see --model"),
    ):
        run(command, photo, photo, "--server", address)
    [asked] = service.requests
    assert "Stream" in type(asked).__name__


def test_a_server_without_streams_still_gets_photos(photo: Path) -> None:
    class NoStreams(FakeVisionService):
        def _open(self, options: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")

    with serving(NoStreams()) as address:
        assert run("detect", photo, "--server", address).exit_code == 0


def test_the_end_is_a_summary_on_standard_error(photo: Path, address: str, tmp_path: Path) -> None:
    """For whoever looks, and not for whoever reads the results; --quiet leaves what failed."""
    for command in ("detect", "embed"):
        told = run(command, photo, photo, tmp_path / "none.jpg", "--server", address, "--json")
        assert told.stdout.count("\n") == 2
        failure, summary = told.stderr.splitlines()
        assert failure.startswith(f"{tmp_path / 'none.jpg'}: ")
        assert re.fullmatch(r"3 photos, 4 faces, 1 failed in \d+\.\d s", summary)
        quiet = run(command, photo, photo, tmp_path / "none.jpg", "--server", address, "--json", "--quiet")
        assert (quiet.stdout.count("\n"), quiet.stderr) == (2, failure + "\n")


def test_an_embedder_that_would_not_be_used_is_refused(video: Path, tmp_path: Path) -> None:
    """Before anybody is asked."""
    result = run("video", video, tmp_path / "out.avi", "--server", "nobody:1", "--embedder", "mobilefacenet")
    assert result.exit_code == 2
    assert "--embedder" in result.stderr
    assert "it needs --embed here" in result.stderr
    assert not (tmp_path / "out.avi").exists()


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_video_draws_on_each_frame(video: Path, address: str, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    result = run("video", video, target, "--server", address, "--tracks")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{target}: 30 frames, 30 with faces, 60 tracks, ")
    capture = cv2.VideoCapture(str(target))
    levels = []
    while (read := capture.read())[0]:
        levels.append(read[1].max())
    assert len(levels) == 30
    assert min(levels) > 100


def test_video_embeds_each_track_once(
    video: Path, address: str, tmp_path: Path, service: FakeVisionService
) -> None:
    result = run("video", video, tmp_path / "out.avi", "--server", address, "--tracks", "--embed", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [frame["frame"] for frame in told] == list(range(30))
    assert told[0]["faces"][0]["track_id"] == 1
    assert told[0]["faces"][0]["embedding"] == [0.75]
    assert service.requests[0].embed_when == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("none.avi", "out.avi"), "cannot open the video"),
        (("in.avi", "out.gif"), "should end in .mp4 or .avi"),
        (("in.avi", "in.avi"), "is the video that is read"),
    ],
)
def test_a_video_that_cannot_be(
    video: Path, address: str, tmp_path: Path, names: tuple[str, str], words: str
) -> None:
    source, target = (tmp_path / name for name in names)
    with pytest.raises(InvalidArgumentError, match=words):
        run("video", source, target, "--server", address)
