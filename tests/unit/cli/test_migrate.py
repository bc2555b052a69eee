"""`naiad embed --migrate`: a folder embedded anew, resumed after any end, one space to a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from support.fake_vision_server import FakeVisionService, serving
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad_client.embedding_file import read_embeddings
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BAD = b"bad"


class Embedder(FakeVisionService):
    """Makes of each picture its length and its first byte, in a space of the version's own."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = {"2": "2" * 32, "3": "3" * 32}
        self.seen: Counter[bytes] = Counter()
        self.answers = 1 << 30
        """Calls that are answered; those after them wait for `release`."""
        self.calls = threading.Semaphore(0)
        self.release = threading.Event()
        self.lock = threading.Lock()

    def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:  # noqa: N802 - gRPC's name
        data = [crop.encoded for crop in request.crops]
        self._take(data, context)
        embeddings = [self._embedding(each, request.model_version) for each in data]
        return pb.EmbedResponse(model=self._model(request.model_version), embeddings=embeddings)

    def Analyze(self, request: pb.AnalyzeRequest, context: Any) -> pb.AnalyzeResponse:  # noqa: N802 - gRPC's name
        """Of a picture "nobody" no face, of others two, the second of which could not be embedded."""
        self.requests.append(request)
        data = request.image.encoded
        self._take([data], context)
        response = pb.AnalyzeResponse(embedder=self._model(request.embedder_version))
        if data != b"nobody":
            embedding = self._embedding(data, request.embedder_version)
            response.faces.add(score=0.5, box=pb.BoundingBox(x2=9), embedding=embedding)
            response.faces.add(score=0.25)
        return response

    def _take(self, data: list[bytes], context: Any) -> None:
        with self.lock:
            self.answers -= 1
            waits = self.answers < 0
        self.calls.release()
        if waits:
            self.release.wait()
        if BAD in data:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"crops[{data.index(BAD)}]: unknown format")
        with self.lock:
            self.seen.update(data)

    def _model(self, version: str) -> pb.ModelVersion:
        return pb.ModelVersion(name="faces", version=version, embedding_space=self.spaces[version])

    def _embedding(self, data: bytes, version: str) -> pb.Embedding:
        return pb.Embedding(values=vector(data), space=self.spaces[version])


def vector(data: bytes) -> list[float]:
    return [len(data), data[0]]


@pytest.fixture
def service() -> Embedder:
    return Embedder()


@pytest.fixture
def address(service: Embedder) -> Iterator[str]:
    with serving(service) as address:
        yield address
        service.release.set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hundred crops of different contents in folders within a folder, and what is none of them."""
    for index in range(100):
        path = tmp_path / "crops" / f"person {index % 7}" / f"{index}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{index}".encode())
    (tmp_path / "crops" / "notes.txt").write_text("no picture")
    return tmp_path / "crops"


def arguments(folder: Path, address: str, output: Path, version: int = 2) -> list[str]:
    told = ["embed", "--migrate", folder, "--to-version", version, "--output", output, "--server", address]
    return [str(each) for each in told]


def migrate(folder: Path, address: str, output: Path, *more: str, version: int = 2) -> Any:
    """The command's result; what it raises is raised."""
    result = CliRunner().invoke(app, [*arguments(folder, address, output, version), *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.[pP][nN][gG]")}


def check(output: Path, folder: Path) -> None:
    """The file has the vector of each picture as it is now, and nothing else."""
    header, pictures = read_embeddings(output)
    assert header is not None
    assert (header.model, header.version, header.embedding_space) == ("faces", "2", "2" * 32)
    found = {path: picture.faces[0].embedding.tolist() for path, picture in pictures.items()}
    assert found == {path: vector(data) for path, data in contents(folder).items()}


def test_each_crop_below_a_folder_is_embedded_once_by_the_version_asked_for(
    folder: Path, address: str, service: Embedder, tmp_path: Path
) -> None:
    result = migrate(folder, address, tmp_path / "new.jsonl")
    assert result.exit_code == 0
    first, second, last = result.stdout.splitlines()
    assert first == f"{tmp_path / 'new.jsonl'}: 0 of 100 pictures so far, 100 left"
    assert second.startswith("100 pictures embedded in ")
    assert second.endswith(" s, 0 had not changed, 0 failed")
    assert last == (
        f"0 of 100 pictures below {folder} left in the old space; the others are in {'2' * 32} (faces/2)"
    )
    check(tmp_path / "new.jsonl", folder)
    assert set(service.seen.values()) == {1}


def test_another_run_embeds_only_what_is_new_or_has_changed(
    folder: Path, address: str, service: Embedder, tmp_path: Path
) -> None:
    """By content: a file that was only touched has not changed."""
    migrate(folder, address, tmp_path / "new.jsonl")
    service.seen.clear()
    (folder / "person 0" / "0.PNG").write_bytes(b"another face")
    (folder / "new.png").write_bytes(b"a new face")
    (folder / "person 1" / "1.PNG").touch()
    result = migrate(folder, address, tmp_path / "new.jsonl")
    assert "100 of 101 pictures so far, 1 left" in result.stdout
    assert "2 pictures embedded in" in result.stdout
    assert "99 had not changed" in result.stdout
    assert service.seen == Counter([b"another face", b"a new face"])
    check(tmp_path / "new.jsonl", folder)


def test_a_run_goes_on_where_one_that_was_killed_has_left_it(
    folder: Path, address: str, service: Embedder, tmp_path: Path
) -> None:
    """Killed at work, its last line cut short: what is in the file is not asked for again."""
    output = tmp_path / "new.jsonl"
    for index in range(100, 160):
        (folder / f"{index}.png").write_bytes(f"{index}".encode())
    service.answers = 4
    command = [sys.executable, "-m", "naiad", *arguments(folder, address, output)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        for _ in range(5):  # the fifth request is made when the answer to one of four is written
            assert service.calls.acquire(timeout=60)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    service.answers = 1 << 30
    service.release.set()
    with output.open("r+b") as file:
        file.truncate(output.stat().st_size - 5)
    kept = set(read_embeddings(output).pictures)
    assert 31 <= len(kept) < 160
    asked = Counter(service.seen)
    result = migrate(folder, address, output)
    assert f"{len(kept)} of 160 pictures so far, {160 - len(kept)} left" in result.stdout
    again = Counter(service.seen)
    again.subtract(asked)
    data = contents(folder)
    assert {data[path] for path in kept}.isdisjoint(each for each, count in again.items() if count)
    check(output, folder)


def test_what_fails_is_listed_costs_the_others_nothing_and_is_tried_again(
    folder: Path, address: str, tmp_path: Path
) -> None:
    """One crop that is no picture among those of a request, a link to nothing, a pipe that never ends."""
    bad, output = folder / "person 3" / "bad.png", tmp_path / "new.jsonl"
    bad.write_bytes(BAD)
    (folder / "gone.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.png")
    result = migrate(folder, address, output)
    assert result.exit_code == 1
    assert "gone.png: No such file or directory\n" in result.stderr
    assert "pipe.png: it is no file\n" in result.stderr
    assert "person 3/bad.png: INVALID_ARGUMENT: crops[0]: unknown format\n" in result.stderr
    assert len(read_embeddings(output).pictures) == 100
    assert "3 of 103 pictures below" in result.stdout
    bad.write_bytes(b"mended")
    (folder / "gone.png").unlink()
    (folder / "pipe.png").unlink()
    result = migrate(folder, address, output)
    assert (result.exit_code, "1 picture embedded" in result.stdout) == (0, True)
    check(output, folder)


def test_two_spaces_do_not_go_into_one_file(
    folder: Path, address: str, service: Embedder, tmp_path: Path
) -> None:
    """Neither by another version, nor by other weights under the same number in the middle of it."""
    output = tmp_path / "new.jsonl"
    (folder / "person 1" / "1.PNG").rename(later := tmp_path / "later.PNG")
    migrate(folder, address, output)
    before = output.read_bytes()
    later.rename(folder / "person 1" / "1.PNG")
    service.spaces["2"] = "4" * 32
    for version, space in ((3, "3" * 32), (2, "4" * 32)):
        words = f"embedding space '{'2' * 32}' .faces/2., faces/{version} now makes '{space}': two spaces"
        with pytest.raises(InvalidArgumentError, match=words):
            migrate(folder, address, output, version=version)
    assert output.read_bytes() == before


def test_photos_have_any_number_of_faces(
    folder: Path, address: str, service: Embedder, tmp_path: Path
) -> None:
    (folder / "empty.png").write_bytes(b"nobody")
    output = tmp_path / "photos.jsonl"
    result = migrate(folder, address, output, "--find-faces", "--score-threshold", "0.3", "--model", "yunet")
    assert result.exit_code == 0
    header, pictures = read_embeddings(output)
    assert header is not None
    assert header.finds_faces
    assert pictures["empty.png"].faces == []
    [face] = pictures["person 0/0.PNG"].faces
    assert face.embedding.tolist() == vector(b"0")
    assert face.place == {"box": [0, 0, 9, 0], "score": 0.5}
    request = service.requests[0]
    assert request.finder.model_name == "yunet"
    assert request.finder.options.score_threshold == np.float32(0.3)
    with pytest.raises(InvalidArgumentError, match="was written for photos, and now --find-faces says crops"):
        migrate(folder, address, output)


def test_a_file_of_something_else_and_one_in_use_are_left_alone(
    folder: Path, address: str, service: Embedder, tmp_path: Path
) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("keep me")
    with pytest.raises(InvalidArgumentError, match=r"line 1 of .*notes.txt' is none .*name another file"):
        migrate(folder, address, other)
    assert other.read_text() == "keep me"
    service.answers = 0
    output = tmp_path / "new.jsonl"
    first = threading.Thread(target=migrate, args=(folder, address, output))
    first.start()
    service.calls.acquire()
    with pytest.raises(UnavailableError, match="another run writes to"):
        migrate(folder, address, output)
    service.release.set()
    first.join()
    check(output, folder)


def test_a_server_that_tells_no_space_is_refused(
    folder: Path, address: str, service: Embedder, tmp_path: Path
) -> None:
    service.spaces["2"] = ""
    with pytest.raises(InvalidArgumentError, match="does not tell embedding spaces"):
        migrate(folder, address, tmp_path / "new.jsonl")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--migrate", "."], "--to-version and --output are wanted"),
        (["--migrate", ".", "--to-version", "2", "--output", "x", "--json"], "neither photos nor --json"),
        (["photo.jpg", "--to-version", "2"], "it is for --migrate"),
        ([], "name at least one"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["embed", *options])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_a_folder_without_pictures_is_told(address: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgumentError, match="has no .bmp, .jpeg"):
        migrate(tmp_path / "empty", address, tmp_path / "new.jsonl")
    with pytest.raises(InvalidArgumentError, match="cannot read the folder .*nowhere: No such"):
        migrate(tmp_path / "nowhere", address, tmp_path / "new.jsonl")


def test_lines_are_json_that_any_program_reads(folder: Path, address: str, tmp_path: Path) -> None:
    migrate(folder, address, tmp_path / "new.jsonl")
    header, *lines = map(json.loads, (tmp_path / "new.jsonl").read_text().splitlines())
    assert (header["format"], header["format_version"]) == ("naiad-embeddings", 1)
    assert {tuple(line) for line in lines} == {("path", "content", "faces")}
