"""Faces and options as they travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from naiad_client import Box, Face
from naiad_client.messages import Messages, parse_detect, parse_embed
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)
FACE = Face(Box(0, 0, 1, 1), 0.5, LANDMARKS)
MESSAGES = Messages(detector="yunet", embedder="mobilefacenet", color=None)


def embed(face: Any) -> pb.EmbedRequest:
    """A request to embed `face`."""
    return MESSAGES.embed(b"x", face, model=None, version=None, color=None)


def detect(**options: Any) -> pb.DetectRequest:
    """A request to detect with these options."""
    defaults = {"model": None, "version": None, "score_threshold": None, "max_faces": None, "color": None}
    return MESSAGES.detect(b"x", **{**defaults, **options})


@pytest.mark.parametrize(
    ("face", "count"),
    [
        (None, 0),
        (FACE, 1),
        ([FACE, FACE], 2),
        ((FACE, LANDMARKS), 2),
        (LANDMARKS, 1),
        (np.stack([LANDMARKS] * 3), 3),
        (LANDMARKS.astype(np.float64), 1),
    ],
    ids=["aligned crop", "face", "faces", "mixed", "landmarks", "stacked", "float64"],
)
def test_each_way_to_name_faces(face: Any, count: int) -> None:
    faces = embed(face).faces
    assert len(faces) == count
    for one in faces:
        np.testing.assert_array_equal([(point.x, point.y) for point in one.points], LANDMARKS)


@pytest.mark.parametrize(
    ("face", "words"),
    [
        ([], "face is empty"),
        (np.zeros((0, 5, 2)), "face is empty"),
        (Face(Box(0, 0, 1, 1), 0.5), "boxes only"),
        (np.zeros((4, 2)), r"shape \[4, 2\]"),
        (np.zeros((2, 4, 2)), r"shape \[4, 2\]"),
    ],
)
def test_unusable_faces_are_refused(face: Any, words: str) -> None:
    """Above all no faces at all: on the wire that means that the picture is an aligned crop."""
    with pytest.raises(ValueError, match=words):
        embed(face)


def test_options_left_out_are_absent() -> None:
    """The server tells "no threshold asked for" from a threshold of zero."""
    assert not detect().options.HasField("score_threshold")
    asked = detect(score_threshold=0.0, max_faces=3, version=2, model="ultraface")
    assert asked.options.HasField("score_threshold")
    assert (asked.options.max_faces, asked.model_version, asked.model_name) == (3, "2", "ultraface")


def test_a_call_s_model_wins_over_the_client_s() -> None:
    assert detect().model_name == "yunet"
    assert detect(model="").model_name == ""
    assert embed(None).model_name == "mobilefacenet"


def test_no_faces_at_all_is_refused_as_a_limit() -> None:
    """0 would mean the model's own limit on the wire."""
    with pytest.raises(ValueError, match="max_faces is 0"):
        detect(max_faces=0)


def test_a_face_has_a_class_where_its_detector_has_classes() -> None:
    """The first class is 0, which is not the same as none."""
    answer = pb.DetectResponse(faces=[pb.Face(score=0.5, label=0), pb.Face(score=0.4)])
    assert [face.label for face in parse_detect(answer).faces] == [0, None]


def test_no_embeddings_make_an_empty_array() -> None:
    assert parse_embed(pb.EmbedResponse()).embeddings.shape == (0, 0)
