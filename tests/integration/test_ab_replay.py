"""Kept disagreements replayed against a server with both versions: figures then and now, pictures, exit codes."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from support.onnx_models import identity
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import BOX, DETECTOR_CONFIG, EMBEDDER_CONFIG, brightness_detector, color_embedder

from naiad.cli import ab_replay
from naiad.cli.ab_replay import ReplayJob, run_replay
from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.lifecycle.experiments.worst import Disagreement, WorstDisagreements, kept_files
from naiad.vision.agreement import DetectionAgreement, EmbeddingAgreement, TensorAgreement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import onnx

    from naiad.app import NaiadServer

ALL = "version_policy { all { } }\n"
MOVED = tuple(edge + 8 if index % 2 == 0 else edge for index, edge in enumerate(BOX))
"""Eight pixels to the right: 24 of 32 columns are common, 40 are in either."""


def moved_detector() -> onnx.ModelProto:
    """The same with its box moved."""
    model = brightness_detector()
    for weights in model.graph.initializer:
        if weights.name == "box":
            weights.CopyFrom(numpy_helper.from_array(np.array([[MOVED]], np.float32), "box"))
    return model


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    repository = tmp_path / "repository"
    repository.mkdir()
    add_model(repository, "faces", {1: brightness_detector(), 2: moved_detector()}, ALL + DETECTOR_CONFIG)
    add_model(repository, "vectors", {1: color_embedder(), 2: color_embedder()}, ALL + EMBEDDER_CONFIG)
    echo = identity(TensorProto.STRING, ["N", 16])
    add_model(repository, "texts", {1: echo, 2: echo}, ALL + "max_batch_size: 4")
    async with server(repository) as started:
        yield started


def keep(folder: Path, model: str, agreement: Any, inputs: dict[str, Any], *outputs: str) -> Path:
    """A kept disagreement; what was answered then plays no part."""
    answers = {name: np.zeros(1, np.float32) for name in outputs}
    found = Disagreement(
        model=model,
        baseline_version=1,
        candidate_version=2,
        agreement=agreement,
        at=datetime.now(UTC),
        inputs=inputs,
        baseline_outputs=answers,
        candidate_outputs=answers,
        request_id="r7",
    )
    path = WorstDisagreements(folder, 10).offer(found)
    assert path is not None
    return path


def keep_faces(folder: Path, model: str = "faces", pictures: int = 2) -> Path:
    then = DetectionAgreement(2, 2, 0, 0.0, None, 0.0, 1.0)
    inputs = {"image": np.full((pictures, 64, 64, 3), 200, np.uint8)}
    return keep(folder, model, then, inputs, "boxes", "scores", "landmarks", "count")


async def replayed(running: NaiadServer, place: Path, **settings: Any) -> int:
    return await asyncio.to_thread(run_replay, ReplayJob(address(running), **settings), place)


async def test_a_kept_request_is_asked_of_both_versions_again(
    running: NaiadServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = keep_faces(tmp_path / "kept")
    assert await replayed(running, tmp_path / "kept", output=tmp_path / "drawn") == 0
    told = capsys.readouterr().out
    assert told == (
        f"{path.name}: faces 1|2, request r7; then 1.0000 (faces 2|2, 0 matched); "
        "now 0.4000 (faces 2|2, 2 matched, IoU 0.600, score +0.000)\n"
    )
    assert sorted(each.name for each in (tmp_path / "drawn").iterdir()) == [
        f"{path.stem}-0.png",
        f"{path.stem}-1.png",
    ]


async def test_every_task_is_replayed_and_one_file_may_be_named(
    running: NaiadServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "kept"
    crops = {"crop": np.full((3, 112, 112, 3), 90, np.uint8)}
    keep(folder, "vectors", EmbeddingAgreement(3, 0.5, 0.1, 2.0, 0.25, 0.25), crops, "embedding")
    texts = {"INPUT0": np.array([[b"a"] * 16, [b"\x00\xff"] * 16], np.object_)}
    path = keep(folder, "texts", TensorAgreement(32, 3, 0.0, 0.1), texts, "OUTPUT0")
    assert await replayed(running, folder, max_disagreement=0.0) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert (
        "then 0.2500 (cosine 0.5000, norm x2.000, rank 0.250); now 0.0000 (cosine 1.0000, norm x1.000)"
        in first
    )
    assert "then 0.1000 (3 of 32 values, by up to 0); now 0.0000 (0 of 32 values, by up to 0)" in second
    assert await replayed(running, path) == 0
    assert capsys.readouterr().out.splitlines() == [second]


async def test_a_terminal_gets_a_table(
    running: NaiadServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "240")
    path = keep_faces(tmp_path / "kept")
    assert await replayed(running, path) == 0
    told = capsys.readouterr().out
    assert "Disagreement, the worst first" in told
    assert path.name in told
    assert "0.4000 (faces 2|2, 2 matched, IoU 0.600, score +0.000)" in told


async def test_too_much_disagreement_is_exit_code_1(running: NaiadServer, tmp_path: Path) -> None:
    keep_faces(tmp_path / "kept")
    assert await replayed(running, tmp_path / "kept", max_disagreement=0.41) == 0
    assert await replayed(running, tmp_path / "kept", max_disagreement=0.39) == 1


async def test_what_fails_is_told_and_the_rest_goes_on(
    running: NaiadServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "kept"
    keep_faces(folder, pictures=9)
    keep_faces(folder, model="gone")
    keep_faces(folder)
    (folder / "0999999-broken.npz").write_bytes(b"no archive")
    assert await replayed(running, folder) == 1
    told = capsys.readouterr()
    # The server's log is in this process, too.
    assert sum("; then " in line for line in told.out.splitlines()) == 1
    failed = told.err.splitlines()
    assert len(failed) == 3
    assert failed[-1] == f"{folder / '0999999-broken.npz'} is no kept disagreement: File is not a zip file"
    assert sum("batch-size must be <= 8" in line for line in failed) == 1
    assert sum("'gone'" in line for line in failed) == 1


async def test_what_a_shadow_at_work_has_replaced_meanwhile_is_passed_over(
    running: NaiadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder keeps the worst: one that was listed may be gone when it is read. One that is named must be there."""
    keep_faces(tmp_path / "kept")
    gone = tmp_path / "kept" / "0999999-gone.npz"
    monkeypatch.setattr(ab_replay, "kept_files", lambda place: [gone, *kept_files(place)])
    assert await replayed(running, tmp_path / "kept") == 0
    assert "gone" not in capsys.readouterr().err
    monkeypatch.undo()
    assert await replayed(running, gone) == 1


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    keep_faces(tmp_path / "kept")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        there = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=f"no server answers at {there}"):
            run_replay(ReplayJob(there), tmp_path / "kept")


def test_a_folder_without_kept_ones_is_refused_before_anyone_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="holds no kept disagreements"):
        run_replay(ReplayJob("127.0.0.1:1"), tmp_path)
