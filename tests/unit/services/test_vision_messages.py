"""Messages of the vision service: what is optional stays so, and answers keep their order."""

from __future__ import annotations

import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import ModelKey
from naiad.dataplane.faces import AnalyzeAnswer, Finder, StageTimes
from naiad.services.vision_messages import (
    add_faces,
    analyze_response,
    compared_side,
    finder_of,
    normalize_of,
    write_embedding,
)
from naiad.vision.detections import Detections
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

FACES = Detections(
    np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.arange(20, dtype=np.float32).reshape(2, 5, 2),
    np.array([2, 0], np.int32),
)


def test_what_a_finder_leaves_out_is_left_to_the_config() -> None:
    assert finder_of(pb.FaceFinder()) == Finder()
    options = pb.DetectOptions(score_threshold=0.0, max_faces=3)
    message = pb.FaceFinder(model_name="yunet", model_version="2", options=options)
    assert finder_of(message) == Finder("yunet", 2, 0.0, 3)


def test_normalize_has_three_values() -> None:
    assert [normalize_of(pb.EmbedRequest(normalize=value)) for value in (True, False, None)] == [
        True,
        False,
        None,
    ]


def faces_of(found: Detections, *, boxes_only: bool = False) -> list[pb.Face]:
    response = pb.DetectResponse()
    add_faces(response.faces, found, boxes_only=boxes_only)
    return list(response.faces)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 512, 5000])
def test_a_vector_written_as_bytes_is_the_one_written_number_by_number(length: int) -> None:
    """Also if it is a column of another array, or has the other order of bytes."""
    vector = np.linspace(-1, 1, 2 * length, dtype=np.float32).reshape(length, 2)[:, 1]
    for each in (vector, vector.astype(">f4")):
        message = pb.Embedding()
        write_embedding(message, each)
        assert message == pb.Embedding(values=vector.tolist())
        told = pb.Embedding()
        write_embedding(told, each, "unverified:" + "0123456789abcdef" * 2)
        assert told == pb.Embedding(values=vector.tolist(), space="unverified:" + "0123456789abcdef" * 2)


def test_faces_keep_order_labels_and_landmarks_unless_only_boxes_are_wanted() -> None:
    first, second = faces_of(FACES)
    assert (first.score, first.label, second.label) == (0.75, 2, 0)
    assert (second.box.x1, second.box.y2) == (4, 7)
    assert [(point.x, point.y) for point in first.landmarks][1] == (2, 3)
    assert not any(face.landmarks for face in faces_of(FACES, boxes_only=True))
    unlabelled = faces_of(Detections(FACES.boxes, FACES.scores))
    assert not any(face.HasField("label") or face.landmarks for face in unlabelled)


def test_of_an_analysis_only_the_chosen_faces_have_a_vector() -> None:
    answer = AnalyzeAnswer(
        detector=ModelKey("yunet", 1),
        embedder=ModelKey("faces", 2),
        detections=FACES,
        image_width=8,
        image_height=9,
        rows=np.array([1]),
        embeddings=np.array([[1, 2]], np.float32),
        times=StageTimes(),
        embedder_times=None,
    )
    message = analyze_response(answer, "id")
    assert [face.HasField("embedding") for face in message.faces] == [False, True]
    assert list(message.faces[1].embedding.values) == [1, 2]
    assert (message.embedded, message.reused, message.embedder.version) == (1, 0, "2")
    assert not message.HasField("embedder_timing")


def test_a_side_is_searched_only_if_it_is_a_picture_without_landmarks() -> None:
    image = pb.Image(encoded=b"x")
    landmarks = pb.FaceLandmarks(points=[pb.Point(x=1, y=2)] * 5)
    assert compared_side(pb.ComparedFace(image=image), "first").is_searched
    at = compared_side(pb.ComparedFace(image=image, landmarks=landmarks), "first")
    assert not at.is_searched
    assert at.landmarks is not None
    assert at.landmarks.tolist() == [[1, 2]] * 5
    assert not compared_side(pb.ComparedFace(crop=image), "first").is_searched
    vector = compared_side(pb.ComparedFace(embedding=pb.Embedding(values=[1, 2])), "first").vector
    assert vector is not None
    assert vector.dtype == np.float32
    with pytest.raises(InvalidArgumentError, match=r"second\.landmarks and second\.embedding"):
        compared_side(pb.ComparedFace(embedding=pb.Embedding(), landmarks=landmarks), "second")
