"""Embed, Analyze and Compare on a real port: one call from a picture to vectors, and what is refused."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import (
    BOXES_CONFIG,
    DETECTOR_CONFIG,
    EMBEDDER_CONFIG,
    LANDMARKS,
    QUARTERS_CONFIG,
    boxes_detector,
    brightness_detector,
    color_embedder,
    quarters_detector,
)
from tritonclient.grpc import service_pb2 as triton_pb
from tritonclient.grpc import service_pb2_grpc as triton_grpc

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer

COLORS = ((10, 20, 30), (200, 20, 30), (10, 200, 30), (10, 20, 200))
"""Red, green and blue of the quarters of `four_faces`: top left, top right, bottom left, bottom right."""


def png(pixels: np.ndarray) -> pb.Image:
    return pb.Image(encoded=cv2.imencode(".png", pixels)[1].tobytes())


def plain(color: tuple[int, int, int], side: int = 112) -> np.ndarray:
    """A square of one colour, given as red, green, blue."""
    image = np.zeros((side, side, 3), np.uint8)
    image[:] = color[::-1]
    return image


def four_faces(side: int = 400) -> np.ndarray:
    """A picture of four colours, in each of which `quarters_detector` finds a face."""
    top, bottom = (np.hstack([plain(color, side // 2) for color in row]) for row in (COLORS[:2], COLORS[2:]))
    return np.vstack([top, bottom])


FOUR = png(four_faces())


def add_boxes_embedder(folder: Path) -> None:
    """An embedder that takes faces as they are: their boxes, unaligned."""
    entry = 'parameters { key: "naiad.embed.alignment" value { string_value: "none" } }\n'
    add_model(folder, "unaligned", color_embedder(), EMBEDDER_CONFIG + entry)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    add_model(tmp_path, "detector", brightness_detector(), DETECTOR_CONFIG)
    add_model(tmp_path, "quarters", quarters_detector(), QUARTERS_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    add_boxes_embedder(tmp_path)
    async with server(tmp_path) as started:
        yield started


@pytest.fixture
async def channel(running: NaiadServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address(running)) as opened:
        yield opened


@pytest.fixture
def stub(channel: Any) -> Any:
    return vision_pb2_grpc.VisionServiceStub(channel)


def finder(name: str = "quarters", **options: Any) -> pb.FaceFinder:
    return pb.FaceFinder(model_name=name, options=pb.DetectOptions(**options))


async def runs(channel: Any, name: str) -> tuple[int, int]:
    """How often a model ran, and how many items it ran."""
    statistics = triton_grpc.GRPCInferenceServiceStub(channel)
    answer = await statistics.ModelStatistics(triton_pb.ModelStatisticsRequest(name=name))
    [stats] = answer.model_stats
    return stats.execution_count, stats.inference_count


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), str(raised.value.details())


async def test_analyze_gives_each_face_its_own_vector_in_one_call(stub: Any) -> None:
    """Four faces of four colours: each vector is the colour around its own landmarks."""
    request = pb.AnalyzeRequest(image=FOUR, finder=finder(), embedder_name="embedder", id="seven")
    answer = await stub.Analyze(request)
    assert (answer.detector.name, answer.embedder.name, answer.id) == ("quarters", "embedder", "seven")
    assert (answer.image_width, answer.image_height) == (400, 400)
    assert (answer.embedded, answer.reused) == (4, 0)
    assert [tuple(face.embedding.values) for face in answer.faces] == [
        pytest.approx(color) for color in COLORS
    ]
    assert all(len(face.landmarks) == 5 for face in answer.faces)
    assert not any(face.HasField("track_id") for face in answer.faces)
    whole, embedder = answer.timing, answer.embedder_timing
    parts = whole.decode_us + whole.preprocess_us + whole.infer_us + whole.postprocess_us
    assert 0 < parts <= whole.total_us
    assert whole.decode_us > 0
    assert embedder.decode_us == 0
    assert 0 < embedder.infer_us <= embedder.total_us <= whole.total_us


async def test_faces_of_one_picture_run_in_full_batches(stub: Any, channel: Any) -> None:
    """Seven pictures of four faces, one after the other, on batches of four: a run each, and one of the detector."""
    before, detector_before = await runs(channel, "embedder"), await runs(channel, "quarters")
    for _ in range(7):
        answer = await stub.Analyze(pb.AnalyzeRequest(image=FOUR, finder=finder(), embedder_name="embedder"))
        assert answer.embedder_timing.batch_size == 4
    after, detector_after = await runs(channel, "embedder"), await runs(channel, "quarters")
    assert (after[0] - before[0], after[1] - before[1]) == (7, 28)
    assert detector_after[0] - detector_before[0] == 7


async def test_options_of_the_finder_are_kept_and_boxes_only_leaves_the_landmarks_out(stub: Any) -> None:
    options: dict[str, Any] = {"max_faces": 2, "boxes_only": True}
    request = pb.AnalyzeRequest(image=FOUR, finder=finder(**options), embedder_name="embedder")
    answer = await stub.Analyze(request)
    assert [tuple(face.embedding.values) for face in answer.faces] == [
        pytest.approx(color) for color in COLORS[:2]
    ]
    assert not any(face.landmarks for face in answer.faces)
    detected = await stub.Detect(
        pb.DetectRequest(model_name="quarters", image=FOUR, options=pb.DetectOptions(**options))
    )
    assert len(detected.faces) == 2
    assert not any(face.landmarks for face in detected.faces)


async def test_a_picture_without_faces_is_answered_without_the_embedder(stub: Any, channel: Any) -> None:
    before = await runs(channel, "embedder")
    nobody = finder(score_threshold=1.0)
    answer = await stub.Analyze(pb.AnalyzeRequest(image=FOUR, finder=nobody, embedder_name="embedder"))
    assert (len(answer.faces), answer.embedded, answer.HasField("embedder_timing")) == (0, 0, False)
    embedded = await stub.Embed(pb.EmbedRequest(image=FOUR, finder=nobody, model_name="embedder"))
    assert (len(embedded.embeddings), embedded.model.name) == (0, "embedder")
    assert await runs(channel, "embedder") == before


async def test_embed_finds_aligns_and_embeds_in_one_call(stub: Any) -> None:
    answer = await stub.Embed(pb.EmbedRequest(model_name="embedder", image=FOUR, finder=finder(), id="one"))
    assert [tuple(each.values) for each in answer.embeddings] == [pytest.approx(color) for color in COLORS]
    assert (answer.model.name, answer.detector.name, answer.id) == ("embedder", "quarters", "one")
    assert len(answer.faces) == 4
    assert answer.timing.decode_us > 0
    assert answer.detector_timing.decode_us == 0
    assert 0 < answer.detector_timing.total_us < answer.timing.total_us


async def test_several_crops_are_embedded_in_one_call_and_batch(stub: Any) -> None:
    crops = [png(plain(color)) for color in COLORS]
    answer = await stub.Embed(pb.EmbedRequest(model_name="embedder", crops=crops))
    assert [tuple(each.values) for each in answer.embeddings] == [pytest.approx(color) for color in COLORS]
    assert answer.timing.batch_size == 4
    assert not answer.HasField("detector")


async def test_normalize_overrides_the_config_both_ways(stub: Any, tmp_path: Path) -> None:
    crop = png(plain((30, 40, 0)))
    for wanted, expected in ((True, [0.6, 0.8, 0]), (False, [30, 40, 0]), (None, [30, 40, 0])):
        answer = await stub.Embed(pb.EmbedRequest(model_name="embedder", crops=[crop], normalize=wanted))
        assert list(answer.embeddings[0].values) == pytest.approx(expected, abs=1e-6)
    request = pb.AnalyzeRequest(image=FOUR, finder=finder(), embedder_name="embedder", normalize=True)
    for face in (await stub.Analyze(request)).faces:
        assert math.hypot(*face.embedding.values) == pytest.approx(1)


async def test_an_embedder_that_does_not_align_gets_the_boxes_of_found_faces(stub: Any) -> None:
    answer = await stub.Embed(pb.EmbedRequest(model_name="unaligned", image=FOUR, finder=finder()))
    assert [tuple(each.values) for each in answer.embeddings] == [pytest.approx(color) for color in COLORS]


async def test_a_model_without_batches_embeds_a_face_a_run(tmp_path: Path) -> None:
    config = EMBEDDER_CONFIG.replace("max_batch_size: 4", "max_batch_size: 0").replace("[ 112", "[ 1, 112")
    config = config.replace("dims: [ 3 ]", "dims: [ 1, 3 ]").replace("dynamic_batching { }", "")
    add_model(tmp_path, "embedder", color_embedder(batch=1), config)
    crops = [png(plain(color)) for color in COLORS]
    async with server(tmp_path) as started, grpc.aio.insecure_channel(address(started)) as channel:
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        answer = await stub.Embed(pb.EmbedRequest(crops=crops))
        assert [tuple(each.values) for each in answer.embeddings] == [
            pytest.approx(color) for color in COLORS
        ]
        assert (await runs(channel, "embedder"))[0] == 4


async def test_where_batches_cannot_be_filled_late_the_same_vectors_come_out(tmp_path: Path) -> None:
    """A response cache digests the values of a request when it comes, so they are written before."""
    add_model(tmp_path, "quarters", quarters_detector(), QUARTERS_CONFIG)
    add_model(tmp_path, "late", color_embedder(), EMBEDDER_CONFIG)
    add_model(tmp_path, "early", color_embedder(), EMBEDDER_CONFIG + "response_cache { enable: true }")
    noise = png(np.random.default_rng(1).integers(0, 255, (300, 400, 3)).astype(np.uint8))
    async with (
        server(tmp_path, cache_config=("local,size=1000000",)) as started,
        grpc.aio.insecure_channel(address(started)) as channel,
    ):
        with started.manager.acquire("late", None) as late, started.manager.acquire("early", None) as early:
            assert (late.defers, early.defers) == (True, False)
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        early_answer, late_answer = [
            await stub.Analyze(pb.AnalyzeRequest(image=noise, embedder_name=name))
            for name in ("early", "late")
        ]
    assert len(early_answer.faces) == 4
    for one, other in zip(early_answer.faces, late_answer.faces, strict=True):
        assert one.embedding == other.embedding
        assert any(one.embedding.values)


async def test_limits_name_value_limit_and_flag(tmp_path: Path) -> None:
    add_model(tmp_path, "quarters", quarters_detector(), QUARTERS_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    async with (
        server(tmp_path, max_embed_faces=2, max_held_image_bytes=400_000) as started,
        grpc.aio.insecure_channel(address(started)) as channel,
    ):
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        for request, words in (
            (pb.EmbedRequest(image=FOUR, faces=[FACE] * 3), "3 faces are to be embedded in one call"),
            (pb.EmbedRequest(crops=[FOUR] * 3), "3 crops are to be embedded in one call"),
            # Counted before anything is read of them: a message may hold hundreds of thousands.
            (pb.EmbedRequest(image=FOUR, faces=[pb.FaceLandmarks()] * 3), "3 faces are to be embedded"),
            (pb.EmbedRequest(crops=[pb.Image()] * 3), "3 crops are to be embedded"),
        ):
            code, details = await refused(stub.Embed(request))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert words in details
            assert "the limit is 2 (--max-embed-faces)" in details
        frame = pb.Frame(frame_id=1, image=FOUR, faces=[pb.FaceLandmarks()] * 3)
        messages = [
            pb.StreamEmbedRequest(options=pb.StreamEmbedOptions()),
            pb.StreamEmbedRequest(frame=frame),
        ]
        [response] = [each async for each in stub.StreamEmbed(iter(messages))]
        assert "3 faces are to be embedded in one call, the limit is 2" in response.error.message
        code, details = await refused(stub.Analyze(pb.AnalyzeRequest(image=FOUR)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "480000 more came, the limit is 400000 (--max-held-image-bytes)" in details


FACE = pb.FaceLandmarks(points=[pb.Point(x=x, y=y) for x, y in LANDMARKS])
INNER_FACE = pb.FaceLandmarks(points=[pb.Point(x=80 + x, y=60 + y) for x, y in LANDMARKS])
WRONG_EMBEDS = [
    (pb.EmbedRequest(crops=[FOUR], image=FOUR), "'crops' and 'image'"),
    (pb.EmbedRequest(crops=[FOUR], faces=[FACE]), "'crops' and 'faces'"),
    (pb.EmbedRequest(crops=[FOUR], finder=finder()), "'crops' and 'finder'"),
    (pb.EmbedRequest(image=FOUR, faces=[FACE], finder=finder()), "'faces' and 'finder'"),
    (pb.EmbedRequest(finder=finder()), "image is missing"),
    (pb.EmbedRequest(), "image is missing"),
    (pb.EmbedRequest(image=FOUR), "400x400"),
    (pb.EmbedRequest(crops=[png(plain((1, 2, 3))), FOUR]), "crops[1]: image is 400x400"),
    (pb.EmbedRequest(crops=[png(plain((1, 2, 3))), pb.Image()]), "crops[1] is missing"),
    (pb.EmbedRequest(crops=[pb.Image(encoded=b"text")]), "crops[0]: image"),
    (pb.EmbedRequest(image=FOUR, faces=[pb.FaceLandmarks(points=[pb.Point()])]), "face 0 has 1 landmarks"),
]


@pytest.mark.parametrize(("request_", "words"), WRONG_EMBEDS, ids=[words for _, words in WRONG_EMBEDS])
async def test_a_wrong_embed_request_is_refused_with_its_fields(
    stub: Any, request_: pb.EmbedRequest, words: str
) -> None:
    request_.model_name = "embedder"
    code, details = await refused(stub.Embed(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in details


async def test_faces_without_five_landmarks_are_refused_for_who_aligns(tmp_path: Path) -> None:
    """Also where the picture has no faces: who asks must not learn it from the first one that has."""
    add_model(tmp_path, "detector", boxes_detector(), BOXES_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    add_boxes_embedder(tmp_path)
    async with server(tmp_path) as started, grpc.aio.insecure_channel(address(started)) as channel:
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        for threshold in (0.0, 1.0):
            request = pb.AnalyzeRequest(image=FOUR, embedder_name="embedder")
            request.finder.options.score_threshold = threshold
            code, details = await refused(stub.Analyze(request))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "detector 'detector' finds no landmarks, embedder 'embedder' aligns by 5" in details
        answer = await stub.Analyze(pb.AnalyzeRequest(image=FOUR, embedder_name="unaligned"))
        assert answer.embedded == 1


def side(image: pb.Image | None = None, **fields: Any) -> pb.ComparedFace:
    return pb.ComparedFace(image=image, **fields)


def vector(*values: float) -> pb.ComparedFace:
    return pb.ComparedFace(embedding=pb.Embedding(values=values))


def cosine(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    return float(np.dot(left, right) / np.linalg.norm(left) / np.linalg.norm(right))


def compare(first: pb.ComparedFace, second: pb.ComparedFace, **fields: Any) -> pb.CompareRequest:
    return pb.CompareRequest(first=first, second=second, embedder_name="embedder", finder=finder(), **fields)


async def test_compare_takes_pictures_crops_landmarks_and_vectors_in_any_mixture(stub: Any) -> None:
    """The cosine of two colours, however each side is given; the top right face is the largest."""
    found = side(FOUR)
    crop = pb.ComparedFace(crop=png(plain(COLORS[1])))
    at = side(png(plain(COLORS[1], 200)), landmarks=INNER_FACE)
    given = vector(*COLORS[1])
    other = vector(*COLORS[2])
    for each in (found, crop, at, given):
        for same in (found, crop, at, given):
            assert (await stub.Compare(compare(each, same))).similarity == pytest.approx(1, abs=1e-5)
        answer = await stub.Compare(compare(each, other, id="nine"))
        assert answer.similarity == pytest.approx(cosine(COLORS[1], COLORS[2]), abs=1e-5)
        assert (answer.embedder.name, answer.id) == ("embedder", "nine")
        assert tuple(answer.second.embedding.values) == COLORS[2]
        assert tuple(answer.first.embedding.values) == pytest.approx(COLORS[1], abs=0.5)
        assert answer.first.HasField("box") is (each is found)
        assert len(answer.first.landmarks) == (5 if each is found else 0)


async def test_two_pictures_are_found_in_one_run_and_embedded_in_one(stub: Any, channel: Any) -> None:
    before = await runs(channel, "quarters"), await runs(channel, "embedder")
    answer = await stub.Compare(compare(side(FOUR), side(png(four_faces(128)))))
    after = await runs(channel, "quarters"), await runs(channel, "embedder")
    assert [(new[0] - old[0], new[1] - old[1]) for old, new in zip(before, after, strict=True)] == [
        (1, 2)
    ] * 2
    timing = answer.timing
    assert 0 < timing.decode_us + timing.preprocess_us + timing.infer_us <= timing.total_us
    assert timing.batch_size == 2


WRONG_COMPARES = [
    (compare(pb.ComparedFace(), vector(1, 2, 3)), "first is missing: set 'image', 'crop' or 'embedding'"),
    (compare(vector(1, 2, 3), side(pb.Image())), "second.image is missing"),
    (
        compare(vector(1, 2), vector(1, 2, 3)),
        "first.embedding has 2 values, those of embedder 'embedder' have 3",
    ),
    (compare(vector(1, 2, 3), vector(0, 0, 0)), "second.embedding has no direction"),
    (compare(vector(1, 2, 3), vector(0, 0, math.nan)), "second.embedding has no direction"),
    (compare(vector(1, 2, 3), side(pb.Image(encoded=b"text"))), "second.image: image"),
    (compare(pb.ComparedFace(crop=FOUR), vector(1, 2, 3)), "first: image is 400x400"),
    (
        compare(pb.ComparedFace(crop=FOUR, landmarks=FACE), vector(1, 2, 3)),
        "first.landmarks and first.crop are both set",
    ),
    (
        compare(side(FOUR, landmarks=pb.FaceLandmarks(points=[pb.Point()])), vector(1, 2, 3)),
        "first.landmarks has 1 landmarks",
    ),
]


@pytest.mark.parametrize(("request_", "words"), WRONG_COMPARES, ids=[words for _, words in WRONG_COMPARES])
async def test_a_wrong_comparison_is_refused_with_its_side(
    stub: Any, request_: pb.CompareRequest, words: str
) -> None:
    code, details = await refused(stub.Compare(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in details


async def test_a_side_without_a_face_is_named(stub: Any) -> None:
    request = compare(vector(1, 2, 3), side(FOUR))
    request.finder.options.score_threshold = 1.0
    code, details = await refused(stub.Compare(request))
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "no face was found in second.image")


async def test_vectors_alone_need_no_detector(tmp_path: Path) -> None:
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    async with server(tmp_path) as started, grpc.aio.insecure_channel(address(started)) as channel:
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        request = pb.CompareRequest(first=vector(1, 0, 0), second=vector(0, 1, 0))
        assert (await stub.Compare(request)).similarity == 0
        code, details = await refused(
            stub.Compare(pb.CompareRequest(first=side(FOUR), second=vector(0, 1, 0)))
        )
        assert (code, details) == (grpc.StatusCode.NOT_FOUND, "no detector is ready on this server")


async def test_models_of_the_wrong_kind_are_refused(stub: Any) -> None:
    request = pb.AnalyzeRequest(image=FOUR, finder=finder("embedder"), embedder_name="embedder")
    assert "no naiad.task 'detect'" in (await refused(stub.Analyze(request)))[1]
    request = pb.AnalyzeRequest(image=FOUR, finder=finder(), embedder_name="quarters")
    assert "no naiad.task 'embed'" in (await refused(stub.Analyze(request)))[1]
    request = pb.AnalyzeRequest(image=FOUR, embedder_name="embedder")
    assert "there are 2 detectors: detector, quarters" in (await refused(stub.Analyze(request)))[1]


async def test_many_pictures_at_once_mix_nothing_up(stub: Any) -> None:
    """Forty pictures, each with its own colours: every vector is its own face's."""
    palettes = np.random.default_rng(3).integers(20, 250, (40, 4, 3)).tolist()

    async def one(colors: list[list[int]]) -> None:
        rows = [np.hstack([plain((r, g, b), 150) for r, g, b in colors[each : each + 2]]) for each in (0, 2)]
        request = pb.AnalyzeRequest(image=png(np.vstack(rows)), finder=finder(), embedder_name="embedder")
        faces = (await stub.Analyze(request)).faces
        assert [tuple(face.embedding.values) for face in faces] == [pytest.approx(color) for color in colors]

    await asyncio.gather(*[one(colors) for colors in palettes])


async def test_a_caller_that_leaves_takes_its_faces_back(running: NaiadServer, stub: Any) -> None:
    """Draining waits for every handle and request: it ends only if none is left behind."""
    calls = [
        stub.Analyze(pb.AnalyzeRequest(image=FOUR, finder=finder(), embedder_name="embedder"))
        for _ in range(20)
    ]
    await calls[0]
    for call in calls[1:]:
        call.cancel()
    await asyncio.wait_for(running.manager.drain(), 30)
