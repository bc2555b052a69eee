"""The benchmark of video: what it measures exists, its shares are of the round they were measured in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench.video_cases import FRAMES, VideoCase, build
from bench.video_cli import LOADS, Measured, Round
from bench.video_load import frame_messages

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

ROOT = Path(__file__).resolve().parents[3]
CASE = VideoCase("key", "title", "m", "", "", 25.0)


def test_a_share_is_of_the_same_round_s_limit() -> None:
    """Machines drift: the median of ratios is not the ratio of medians."""
    bare = [Round(rate, 0, 0) for rate in (100, 10, 50)]
    served = [Round(rate, 0, 0) for rate in (90, 5, 50)]
    assert Measured(CASE, bare, {(1, 4): served}).share((1, 4)) == 0.9


def test_frames_travel_as_the_files_they_are() -> None:
    for jpeg, message in zip((b"a", b"bc"), frame_messages([b"a", b"bc"]), strict=True):
        assert pb.StreamDetectRequest.FromString(message).frame.image.encoded == jpeg


@pytest.mark.assets
def test_published_detectors_see_clips_and_the_demo_s_its_own(tmp_path: Path, assets: Path) -> None:
    cases = {case.title: case for case in build(tmp_path, assets)}
    assert set(cases) == {
        "MTCNN, demo",
        *(f"YuNet {side}, {clip}" for side in (320, 640) for clip in ("640x360", "1080p")),
    }
    street = cases["YuNet 320, 1080p"]
    assert (len(street.jpegs()), street.rate, street.onnx.is_file()) == (FRAMES, 25.0, True)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_command_measures_and_writes_figures(tmp_path: Path) -> None:
    command = [sys.executable, "bench/video.py", "--rounds=1", "--seconds=0.3", "--only=MTCNN"]
    done = subprocess.run(
        [*command, f"--output={tmp_path}", f"--assets={tmp_path}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Frames a second" in done.stdout
    content = json.loads((tmp_path / "video.json").read_text())
    (case,) = content["cases"]
    assert set(case["served"]) == {f"{streams}x{in_flight}" for streams, in_flight in LOADS}
    assert case["bare"][0]["rate"] > 0
    assert min(case["bare"][0]["stages_us"].values()) > 0
