"""Faces and options as they travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from naiad_client import Box, Crop, Embedding, Face, FaceIn, Finder
from naiad_client.images import Pictures
from naiad_client.messages import Messages
from naiad_client.parsing import parse_analyze, parse_compare, parse_detect, parse_embed
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)
FACE = Face(Box(0, 0, 1, 1), 0.5, LANDMARKS)
MESSAGES = Messages(detector="yunet", embedder="mobilefacenet", pictures=Pictures())


def embed(face: Any, **options: Any) -> pb.EmbedRequest:
    """A request to embed `face`."""
    request: pb.EmbedRequest = MESSAGES.embed(b"x", face, options).request  # type: ignore[arg-type]  # a test's own
    return request


def detect(**options: Any) -> pb.DetectRequest:
    """A request to detect with these options."""
    request: pb.DetectRequest = MESSAGES.detect(b"x", options).request  # type: ignore[arg-type]  # a test's own
    return request


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


@pytest.mark.parametrize(
    ("finder", "name", "version", "threshold"),
    [
        ("ultraface", "ultraface", "", False),
        ("", "", "", False),
        (Finder(version=2, score_threshold=0.5), "yunet", "2", True),
    ],
)
def test_a_finder_is_a_name_or_more(finder: Any, name: str, version: str, threshold: bool) -> None:
    """Without a name the client's own detector finds the faces; "" leaves the choice to the server."""
    told = embed(None, finder=finder, normalize=False)
    assert (told.finder.model_name, told.finder.model_version) == (name, version)
    assert told.finder.options.HasField("score_threshold") is threshold
    assert told.HasField("normalize")


def test_without_a_finder_there_is_none_in_the_request() -> None:
    """A finder in the request would have the server look for faces in an aligned crop."""
    assert not embed(None).HasField("finder")


def test_faces_and_a_finder_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude"):
        embed(FACE, finder="yunet")


def test_crops_travel_together_and_must_be_some() -> None:
    crops: list[bytes] = [b"1", b"2"]
    assert [crop.encoded for crop in MESSAGES.embed_crops(crops, {}).request.crops] == crops
    with pytest.raises(ValueError, match="crops is empty"):
        MESSAGES.embed_crops([], {})


def test_what_can_be_compared() -> None:
    """A picture, a crop, a face in a picture, a vector."""
    vector = np.array([0.5, 1.0])
    picture_and_crop = MESSAGES.compare(b"a", Crop(b"b"), {}).request
    assert (picture_and_crop.first.image.encoded, picture_and_crop.second.crop.encoded) == (b"a", b"b")
    face_and_vector = MESSAGES.compare(FaceIn(b"a", FACE), vector, {"finder": "f"}).request
    assert len(face_and_vector.first.landmarks.points) == 5
    assert face_and_vector.second.embedding.values == [0.5, 1.0]
    assert face_and_vector.finder.model_name == "f"
    with pytest.raises(ValueError, match=r"shape \[1, 2\]"):
        MESSAGES.compare(vector[np.newaxis], b"b", {})


def test_a_vector_with_its_space_is_sent_with_it() -> None:
    vector = np.array([0.5, 1.0], np.float32)
    request = MESSAGES.compare(Embedding(vector, "abc"), vector, {"require_embedding_space": True}).request
    assert request.first.embedding == pb.Embedding(values=[0.5, 1.0], space="abc")
    assert (request.second.embedding.space, request.require_embedding_space) == ("", True)
    with pytest.raises(ValueError, match=r"shape \[1, 2\]"):
        MESSAGES.compare(Embedding(vector[np.newaxis], "abc"), vector, {})


def test_further_versions_are_named_in_a_list() -> None:
    assert embed(FACE, also_versions=[2, "3"]).also_versions == ["2", "3"]
    assert MESSAGES.analyze(b"x", {"also_versions": (1,)}).request.also_versions == ["1"]
    with pytest.raises(TypeError, match="also_versions is '12': a list is wanted"):
        embed(FACE, also_versions="12")


def test_what_further_versions_made_is_read_with_version_and_space() -> None:
    """A face without a vector is None."""
    other = pb.VersionEmbeddings(
        model=pb.ModelVersion(name="e", version="2", embedding_space="new"),
        embeddings=[pb.Embedding(values=[1, 2], space="new"), pb.Embedding()],
        timing=pb.Timing(infer_us=9),
    )
    model = pb.ModelVersion(name="e", version="1", embedding_space="old")
    response = pb.EmbedResponse(
        model=model, embeddings=[pb.Embedding(values=[3, 4], space="old")], also=[other]
    )
    result = parse_embed(response)
    assert (result.embedding_space, result.embedding(0).space) == ("old", "old")
    np.testing.assert_array_equal(result.embedding(0).values, [3, 4])
    [also] = result.also
    assert (also.model, also.version, also.embedding_space) == ("e", "2", "new")
    assert also.timing is not None
    assert also.timing.infer_us == 9
    first, second = also.embeddings
    assert second is None
    np.testing.assert_array_equal(first, [1, 2])
    analyzed = parse_analyze(pb.AnalyzeResponse(embedder=model, also=[pb.VersionEmbeddings()]))
    assert (analyzed.embedding_space, analyzed.also[0].timing) == ("old", None)


def test_an_analysis_is_read_whole() -> None:
    """A face that was not embedded has no vector; a track has a number, and may have an older vector."""
    answer = pb.AnalyzeResponse(
        detector=pb.ModelVersion(name="d", version="1"),
        embedder=pb.ModelVersion(name="e", version="2"),
        faces=[
            pb.Face(score=0.5, embedding=pb.Embedding(values=[1, 2]), track_id=7, embedding_frame_id=3),
            pb.Face(score=0.4),
        ],
        embedder_timing=pb.Timing(infer_us=9),
        embedded=1,
        reused=1,
    )
    result = parse_analyze(answer)
    first, second = result.faces
    assert first.embedding is not None
    np.testing.assert_array_equal(first.embedding, [1, 2])
    assert (first.track_id, first.embedding_frame_id) == (7, 3)
    assert (second.embedding, second.track_id) == (None, None)
    assert (result.detector, result.embedder, result.embedder_version) == ("d", "e", "2")
    assert (result.embedded, result.reused) == (1, 1)
    assert result.embedder_timing is not None
    assert parse_analyze(pb.AnalyzeResponse()).embedder_timing is None


def test_a_comparison_has_a_face_where_one_was_found() -> None:
    found = pb.Face(box=pb.BoundingBox(x2=1), embedding=pb.Embedding(values=[1, 0]))
    given = pb.Face(embedding=pb.Embedding(values=[0, 1]))
    result = parse_compare(pb.CompareResponse(similarity=0.25, first=found, second=given))
    assert result.first is not None
    assert (result.first.box.x2, result.second) == (1, None)
    np.testing.assert_array_equal(result.embeddings, [[1, 0], [0, 1]])
