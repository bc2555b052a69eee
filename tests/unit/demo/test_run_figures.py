"""The demo's numbers."""

from __future__ import annotations

import random

import grpc
import pytest

from naiad.core.errors import InternalError
from naiad.demo.figures import BatchFigures, PhotoFigures, StreamFigures, percentile
from naiad_client import Box, DetectResult, Face, FrameResult, NaiadError, Timing


def result(version: str = "1", faces: int = 1, total_us: int = 6000) -> DetectResult:
    timing = Timing(1000, 500, 2000, 3000, 250, total_us, 4)
    found = [Face(Box(1, 2, 3, 4), 0.9)] * faces
    return DetectResult(found, "face_detector", version, 640, 480, timing)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.1, 51), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    values = list(range(1, 101))
    random.Random(1).shuffle(values)
    assert percentile(values, percent) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.5], percent) for percent in (0, 50, 99, 100)] == [7.5] * 4


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(InternalError, match="no values"):
        percentile([], 50)


def test_photo_figures_take_the_median_time_of_all_calls() -> None:
    figures = PhotoFigures.of([result(total_us=total) for total in (90_000, 20_000, 30_000)])
    assert (figures.version, figures.calls, figures.server_ms, len(figures.faces)) == ("1", 3, 30.0, 1)


def test_stream_figures_count_frames_faces_and_times() -> None:
    """A frame taken at 1000 us and back at 21000 us took the client 20 ms; 2 frames in 0.5 s are 4 a second."""
    figures = StreamFigures("1")
    figures.add(FrameResult(0, 1_000, result()), now_us=21_000, seconds=0.25)
    figures.add(FrameResult(1, 2_000, result(faces=0)), now_us=42_000, seconds=0.5)
    assert (figures.frames, figures.with_face, figures.frames_per_second) == (2, 1, 4.0)
    assert figures.client_ms == [20.0, 40.0]
    assert {part: values[0] for part, values in figures.server_ms.items()} == {
        "decode": 1.0,
        "preprocess": 0.5,
        "queue": 2.0,
        "infer": 3.0,
        "postprocess": 0.25,
        "total": 6.0,
    }


def test_a_failed_frame_ends_the_count_with_its_reason() -> None:
    failure = NaiadError(grpc.StatusCode.INTERNAL, "the model broke")
    with pytest.raises(InternalError, match=r"frame 3 .*the model broke"):
        StreamFigures("1").add(FrameResult(3, 0, error=failure), now_us=1, seconds=1.0)


def test_an_answer_by_another_version_is_noticed() -> None:
    with pytest.raises(InternalError, match="version 1 was asked, version 2 answered"):
        StreamFigures("1").add(FrameResult(0, 0, result("2")), now_us=1, seconds=1.0)


def test_batches_are_those_between_two_readings() -> None:
    """Before: 5 runs of one picture. Since then 2 more of one, 3 of six: 20 pictures in 5 runs."""
    batches = BatchFigures.between({1: 5}, {1: 7, 6: 3})
    assert batches.runs == {1: 2, 6: 3}
    assert (batches.pictures, batches.average, batches.largest) == (20, 4.0, 6)


def test_batches_of_a_server_that_did_nothing_are_zero() -> None:
    batches = BatchFigures.between({4: 2}, {4: 2})
    assert (batches.pictures, batches.average, batches.largest) == (0, 0.0, 0)
