"""The vision service on a real port: images and frames in, faces and embeddings out."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import (
    BOX,
    DETECTOR_CONFIG,
    EMBEDDER_CONFIG,
    LANDMARKS,
    brightness_detector,
    color_embedder,
)

from naiad.core.errors import InvalidArgumentError
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer


def grey_png(value: int, width: int = 64, height: int = 64) -> bytes:
    image = np.full((height, width, 3), value, np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def encoded(data: bytes) -> pb.Image:
    return pb.Image(encoded=data)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    add_model(
        tmp_path,
        "detector",
        {1: brightness_detector(), 2: brightness_detector()},
        DETECTOR_CONFIG + "version_policy { all {} }",
    )
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    async with server(tmp_path, max_image_pixels=4_000_000, stream_max_in_flight=4) as started:
        yield started


@pytest.fixture
async def stub(running: NaiadServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address(running)) as channel:
        yield vision_pb2_grpc.VisionServiceStub(channel)


async def test_detect_answers_in_pixels_of_the_original_and_says_who_and_how_long(stub: Any) -> None:
    """A picture of twice the input's size: boxes and landmarks are twice as far from the corner."""
    image = encoded(grey_png(51, 128, 128))
    answer = await stub.Detect(pb.DetectRequest(model_name="detector", image=image, id="photo"))
    [face] = answer.faces
    assert (face.box.x1, face.box.y1, face.box.x2, face.box.y2) == tuple(2 * side for side in BOX)
    assert [(point.x, point.y) for point in face.landmarks] == [(2 * x, 2 * y) for x, y in LANDMARKS]
    assert face.score == pytest.approx(0.2)
    assert (answer.model.name, answer.model.version, answer.id) == ("detector", "2", "photo")
    assert (answer.image_width, answer.image_height) == (128, 128)
    timing = answer.timing
    parts = timing.decode_us + timing.preprocess_us + timing.infer_us + timing.postprocess_us
    assert 0 < parts <= timing.total_us
    assert timing.batch_size == 1


async def test_version_threshold_and_the_only_detector_can_be_left_to_the_server(stub: Any) -> None:
    image = encoded(grey_png(51))
    answer = await stub.Detect(pb.DetectRequest(model_version="1", image=image))
    assert (answer.model.name, answer.model.version) == ("detector", "1")
    options = pb.DetectOptions(score_threshold=0.5)
    assert not (await stub.Detect(pb.DetectRequest(image=image, options=options))).faces


async def test_raw_pixels_mean_the_same_as_a_file(stub: Any) -> None:
    """Rows with a stride, in each pixel format."""
    row, padding = bytes([51]) * 64, bytes(6)
    for pixel_format, channels in (
        (pb.PIXEL_FORMAT_BGR, 3),
        (pb.PIXEL_FORMAT_RGB, 3),
        (pb.PIXEL_FORMAT_GRAY, 1),
    ):
        raw = pb.RawImage(
            data=(row * channels + padding) * 64,
            format=pixel_format,
            width=64,
            height=64,
            stride=64 * channels + 6,
        )
        answer = await stub.Detect(pb.DetectRequest(image=pb.Image(raw=raw)))
        assert answer.faces[0].score == pytest.approx(0.2)


@pytest.mark.parametrize("pixel_format", [pb.PIXEL_FORMAT_NV12, pb.PIXEL_FORMAT_I420])
async def test_a_video_frame_means_the_same_as_a_file(
    stub: Any, pixel_format: pb.PixelFormat.ValueType
) -> None:
    """Luminance 60 is grey 51 in video's range; 128 is no colour."""
    data = bytes([60]) * (70 * 64) + bytes([128]) * (70 * 32)
    raw = pb.RawImage(data=data, format=pixel_format, width=64, height=64, stride=70)
    answer = await stub.Detect(pb.DetectRequest(image=pb.Image(raw=raw)))
    assert answer.faces[0].score == pytest.approx(0.2, abs=0.01)


async def test_a_batch_of_mixed_pictures_gives_each_its_own_answer(stub: Any) -> None:
    values = list(range(0, 250, 8))
    calls = [
        stub.Detect(pb.DetectRequest(image=encoded(grey_png(value, 64 + value, 200)))) for value in values
    ]
    answers = await asyncio.gather(*calls)
    for value, answer in zip(values, answers, strict=True):
        content = (64 * (64 + value) // 200) / 64 if value <= 136 else 64 * 200 // (64 + value) / 64
        assert answer.faces[0].score == pytest.approx(value / 255 * content, abs=0.01)
    assert max(answer.timing.batch_size for answer in answers) > 1


async def test_embed_takes_an_aligned_crop_or_landmarks(stub: Any) -> None:
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[:] = (30, 20, 10)  # BGR
    image = encoded(cv2.imencode(".png", crop)[1].tobytes())
    answer = await stub.Embed(pb.EmbedRequest(image=image))
    [embedding] = answer.embeddings
    assert list(embedding.values) == pytest.approx([10, 20, 30])
    assert (answer.model.name, answer.model.version) == ("embedder", "1")
    face = pb.FaceLandmarks(points=[pb.Point(x=40 + x, y=40 + y) for x, y in LANDMARKS])
    wide = np.zeros((200, 200, 3), np.uint8)
    wide[:] = (30, 20, 10)
    request = pb.EmbedRequest(image=encoded(cv2.imencode(".png", wide)[1].tobytes()), faces=[face] * 6)
    answer = await stub.Embed(request)
    # Six faces on a model of at most four a batch.
    assert len(answer.embeddings) == 6
    for embedding in answer.embeddings:
        assert list(embedding.values) == pytest.approx([10, 20, 30], abs=0.5)


async def test_a_fault_while_embedding_keeps_its_own_status(tmp_path: Path) -> None:
    """Seven single faces at once on a queue of one: the refusal is UNAVAILABLE, as for a tensor."""
    add_model(
        tmp_path,
        "embedder",
        color_embedder(),
        EMBEDDER_CONFIG.replace("max_batch_size: 4", "max_batch_size: 1"),
    )
    crop = encoded(cv2.imencode(".png", np.zeros((200, 200, 3), np.uint8))[1].tobytes())
    face = pb.FaceLandmarks(points=[pb.Point(x=40 + x, y=40 + y) for x, y in LANDMARKS])
    async with (
        server(tmp_path, max_queue_size=1) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
    ):
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Embed(pb.EmbedRequest(image=crop, faces=[face] * 20))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "--max-queue-size" in str(raised.value.details())


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    body = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk


def truncated_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()[:-800]


BAD_IMAGES = [
    (pb.Image(), grpc.StatusCode.INVALID_ARGUMENT, "image is missing"),
    (encoded(b""), grpc.StatusCode.INVALID_ARGUMENT, "image"),
    (encoded(b"just some text, no picture"), grpc.StatusCode.INVALID_ARGUMENT, "image"),
    (encoded(truncated_jpeg()), grpc.StatusCode.INVALID_ARGUMENT, "truncated JPEG"),
    (encoded(png_header(30_000, 30_000)), grpc.StatusCode.RESOURCE_EXHAUSTED, "--max-image-pixels"),
    (
        pb.Image(raw=pb.RawImage(data=b"12", format=pb.PIXEL_FORMAT_BGR, width=9, height=9)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "243",
    ),
    (pb.Image(raw=pb.RawImage(data=b"12", width=1, height=1)), grpc.StatusCode.INVALID_ARGUMENT, "format"),
]


@pytest.mark.parametrize(("image", "code", "words"), BAD_IMAGES, ids=[case[2] for case in BAD_IMAGES])
async def test_a_bad_image_is_refused_clearly_and_the_server_goes_on(
    stub: Any, image: pb.Image, code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Detect(pb.DetectRequest(image=image))
    assert raised.value.code() is code
    assert words in str(raised.value.details())
    assert (await stub.Detect(pb.DetectRequest(image=encoded(grey_png(51))))).faces


async def test_a_tensor_model_is_no_detector(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"model 'embedder' has no naiad.task 'detect'"):
        await stub.Detect(pb.DetectRequest(model_name="embedder", image=encoded(grey_png(1))))


def frames(*images: pb.Image) -> list[pb.StreamDetectRequest]:
    options = pb.StreamDetectRequest(options=pb.StreamDetectOptions(model_name="detector"))
    numbered = (
        pb.StreamDetectRequest(frame=pb.Frame(frame_id=100 + number, image=image, capture_time_us=number))
        for number, image in enumerate(images)
    )
    return [options, *numbered]


async def test_a_stream_answers_each_frame_in_order_and_a_bad_frame_in_band(stub: Any) -> None:
    images = [encoded(grey_png(value)) for value in (0, 51, 102)]
    images.insert(1, encoded(b"broken"))
    answers = [answer async for answer in stub.StreamDetect(iter(frames(*images)))]
    assert [answer.frame_id for answer in answers] == [100, 101, 102, 103]
    assert [answer.capture_time_us for answer in answers] == [0, 1, 2, 3]
    assert answers[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "image" in answers[1].error.message
    scores = [answer.result.faces[0].score for answer in answers if answer.HasField("result")]
    assert scores == pytest.approx([0, 0.2, 0.4])


async def test_a_long_stream_loses_and_mixes_nothing(stub: Any) -> None:
    values = [number % 250 for number in range(300)]
    images = [encoded(grey_png(value)) for value in values]
    answers = [answer async for answer in stub.StreamDetect(iter(frames(*images)))]
    assert [answer.frame_id for answer in answers] == list(range(100, 400))
    assert [answer.result.faces[0].score for answer in answers] == pytest.approx(
        [value / 255 for value in values], abs=1e-4
    )


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (frames(encoded(grey_png(1)))[1:], "must carry 'options'"),
        ([], "must carry 'options'"),
        (
            [pb.StreamDetectRequest(options=pb.StreamDetectOptions(model_name="nope"))],
            "Request for unknown model: 'nope' is not found",
        ),
    ],
)
async def test_a_stream_that_opens_wrongly_ends_with_a_status(
    stub: Any, messages: list[pb.StreamDetectRequest], words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in stub.StreamDetect(iter(messages)):
            pass
    assert words in str(raised.value.details())


async def test_embeddings_stream_too(stub: Any) -> None:
    crop = encoded(cv2.imencode(".png", np.full((112, 112, 3), 7, np.uint8))[1].tobytes())
    messages = [
        pb.StreamEmbedRequest(options=pb.StreamEmbedOptions(model_name="embedder")),
        pb.StreamEmbedRequest(frame=pb.Frame(frame_id=1, image=crop)),
        pb.StreamEmbedRequest(frame=pb.Frame(frame_id=2, image=encoded(grey_png(7)))),
    ]
    good, bad = [answer async for answer in stub.StreamEmbed(iter(messages))]
    assert list(good.result.embeddings[0].values) == pytest.approx([7, 7, 7])
    assert "64x64" in bad.error.message


async def test_a_client_that_leaves_a_stream_leaves_no_work_behind(running: NaiadServer, stub: Any) -> None:
    async def endless() -> AsyncIterator[pb.StreamDetectRequest]:
        yield frames()[0]
        image = encoded(grey_png(9))
        number = 0
        while True:
            number += 1
            yield pb.StreamDetectRequest(frame=pb.Frame(frame_id=number, image=image))

    call = stub.StreamDetect(endless())
    assert (await call.read()).frame_id == 1
    call.cancel()
    # Draining waits for every handle and request: it ends only if the stream has let go of all of them.
    await asyncio.wait_for(running.manager.drain(), 20)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("naiad.haed", "mtcnn", "naiad.haed"),
        ("naiad.head", "nope", "naiad.head"),
        ("naiad.input.resize", "squeeze", "naiad.input.resize"),
        ("naiad.head", "yunet", "naiad.head 'yunet' needs an output"),
    ],
)
async def test_a_wrong_naiad_key_refuses_the_model_and_names_the_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], key: str, value: str, words: str
) -> None:
    entry = f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
    add_model(tmp_path, "detector", brightness_detector(), DETECTOR_CONFIG + entry)
    with pytest.raises(InvalidArgumentError):
        async with server(tmp_path):
            pass
    async with server(tmp_path, exit_on_error=False) as running:
        assert not running.manager.is_ready("detector", None)
        [model] = running.manager.models()
        reasons = [model.problem, *(entry.reason for entry in model.versions.values())]
        assert any(words in str(reason) for reason in reasons)
