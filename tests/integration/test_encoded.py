"""Image files through Triton's own calls: what is answered, what is refused, and that numbers go on as before."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import cv2
import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
import tritonclient.http.aio as http
from support.repositories import add_model
from support.servers import address, http_address, metrics_address, server
from support.vision_models import (
    BOX,
    DETECTOR_CONFIG,
    EMBEDDER_CONFIG,
    LANDMARKS,
    ROWS_CONFIG,
    brightness_detector,
    color_embedder,
    rows_detector,
)
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, serialized_byte_size
from tritonclient.utils import shared_memory as shm
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad_protos.naiad.vision.v1 import vision_pb2, vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer

ACCEPTS = '\nparameters { key: "naiad.accepts" value { string_value: "encoded" } }\n'
FACES = ("naiad_boxes", "naiad_image", "naiad_landmarks", "naiad_scores")
RAW = ("boxes", "count", "landmarks", "scores")
TIMES = ("naiad_decode_us", "naiad_preprocess_us", "naiad_postprocess_us")


def grey(value: int, width: int = 64, height: int = 64, kind: str = ".png") -> bytes:
    image = np.full((height, width, 3), value, np.uint8)
    return cv2.imencode(kind, image)[1].tobytes()


def files(*data: bytes, columns: bool = False) -> np.ndarray:
    """A BYTES tensor `[N]`, or `[N, 1]`."""
    array = np.array(data, np.object_)
    return array.reshape(-1, 1) if columns else array


def pictures(array: np.ndarray, name: str = "image", module: Any = triton) -> list[Any]:
    tensor = module.InferInput(name, list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return [tensor]


def names(result: Any) -> list[str]:
    return [output.name for output in result.get_response().outputs]


def write_models(folder: Path) -> None:
    add_model(folder, "detector", brightness_detector(), DETECTOR_CONFIG + ACCEPTS)
    add_model(folder, "plain", brightness_detector(), DETECTOR_CONFIG)
    add_model(folder, "rows", rows_detector(), ROWS_CONFIG + ACCEPTS)
    add_model(folder, "embedder", color_embedder(), EMBEDDER_CONFIG + ACCEPTS)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    write_models(tmp_path)
    async with server(tmp_path, max_image_pixels=1_000_000, allow_client_shm=True) as started:
        yield started


@pytest.fixture
async def client(running: NaiadServer) -> AsyncIterator[Any]:
    async with triton.InferenceServerClient(address(running)) as connected:
        yield connected


@pytest.mark.parametrize("columns", [False, True])
async def test_a_detector_answers_files_with_faces_in_pixels_of_each_original(
    client: Any, *, columns: bool
) -> None:
    """Three pictures of other sizes and formats in one request: one batch, and which face is of which picture."""
    sent = files(grey(51), grey(102, 128, 128, ".bmp"), grey(0, 32, 32, ".webp"), columns=columns)
    result = await client.infer("detector", pictures(sent), request_id="three")
    assert names(result) == list(FACES)
    boxes = np.outer((1, 2, 0.5), BOX)
    np.testing.assert_array_equal(result.as_numpy("naiad_boxes"), boxes.astype(np.float32))
    np.testing.assert_allclose(result.as_numpy("naiad_scores"), (0.2, 0.4, 0), atol=1e-6)
    np.testing.assert_array_equal(result.as_numpy("naiad_landmarks")[1], 2 * np.array(LANDMARKS))
    np.testing.assert_array_equal(result.as_numpy("naiad_image"), (0, 1, 2))
    response = result.get_response()
    assert {output.name: output.datatype for output in response.outputs} == {
        "naiad_boxes": "FP32",
        "naiad_image": "INT32",
        "naiad_landmarks": "FP32",
        "naiad_scores": "FP32",
    }
    assert response.id == "three"
    assert all(response.parameters[key].int64_param > 0 for key in TIMES)


async def test_a_model_without_batches_takes_one_file_and_tells_classes(client: Any) -> None:
    result = await client.infer("rows", pictures(files(grey(255))))
    np.testing.assert_array_equal(result.as_numpy("naiad_labels"), np.array((3, 7), np.int32))
    assert result.as_numpy("naiad_landmarks").shape == (2, 6, 2)
    np.testing.assert_array_equal(result.as_numpy("naiad_image"), (0, 0))
    with pytest.raises(InferenceServerException, match=r"Expected \[1\] for image files, got \[2\]"):
        await client.infer("rows", pictures(files(grey(1), grey(2))))


async def test_outputs_are_those_that_were_asked_for(client: Any) -> None:
    """The graph's own, the faces, or both; nothing else comes."""
    sent = pictures(files(grey(51)))

    async def ask(*wanted: str) -> list[str]:
        outputs = [triton.InferRequestedOutput(name) for name in wanted]
        return names(await client.infer("detector", sent, outputs=outputs))

    assert await ask(*RAW) == list(RAW)
    assert await ask("naiad_scores") == ["naiad_scores"]
    assert await ask("scores", "naiad_boxes") == ["naiad_boxes", "scores"]
    with pytest.raises(InferenceServerException, match="unexpected inference output 'faces'"):
        await ask("faces")
    with pytest.raises(InferenceServerException, match="head gives no labels"):
        await ask("naiad_labels")


async def test_raw_outputs_of_a_file_are_those_of_the_same_pixels(client: Any) -> None:
    """A picture of the input's own size needs no resizing: sent as numbers, it is the same request."""
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    outputs = [triton.InferRequestedOutput(name) for name in RAW]
    numbers = triton.InferInput("image", [1, 64, 64, 3], "UINT8")
    numbers.set_data_from_numpy(image[np.newaxis])
    for _ in range(3):  # the second of a kind takes the short way
        by_file = await client.infer("detector", pictures(files(data)), outputs=outputs)
        by_number = await client.infer("detector", [numbers], outputs=outputs)
        for name in RAW:
            np.testing.assert_array_equal(by_file.as_numpy(name), by_number.as_numpy(name))
        assert not by_number.get_response().parameters


async def test_the_request_may_set_threshold_and_number_of_faces(client: Any) -> None:
    async def count(**parameters: Any) -> int:
        result = await client.infer("rows", pictures(files(grey(255))), parameters=parameters)
        return len(result.as_numpy("naiad_scores"))

    assert await count() == 2
    assert await count(naiad_score_threshold=0.75) == 1
    assert await count(naiad_score_threshold="0.75") == 1
    assert await count(naiad_max_faces=1) == 1
    assert await count(naiad_max_faces=0) == 2


@pytest.mark.parametrize(
    ("model", "parameters", "words"),
    [
        (
            "detector",
            {"naiad_score_threshold": 1.5},
            "'naiad_score_threshold' is 1.5: expected a number from 0",
        ),
        ("detector", {"naiad_score_threshold": True}, "'naiad_score_threshold' is True: expected a number"),
        (
            "detector",
            {"naiad_score_threshold": "high"},
            "'naiad_score_threshold' is 'high': expected a number",
        ),
        ("detector", {"naiad_max_faces": -1}, "'naiad_max_faces' is -1: expected a whole number"),
        ("detector", {"naiad_max_faces": "1.5"}, "'naiad_max_faces' is '1.5': expected a whole number"),
        ("embedder", {"naiad_max_faces": 1}, "asks for none"),
    ],
)
async def test_a_parameter_that_cannot_be_honoured_is_refused(
    client: Any, model: str, parameters: dict[str, Any], words: str
) -> None:
    name = "crop" if model == "embedder" else "image"
    with pytest.raises(InferenceServerException) as raised:
        await client.infer(model, pictures(files(grey(1)), name), parameters=parameters)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert words in raised.value.message()


async def test_an_embedder_gives_its_outputs_for_aligned_crops(client: Any) -> None:
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[:] = (30, 20, 10)  # BGR
    data = cv2.imencode(".png", crop)[1].tobytes()
    result = await client.infer("embedder", pictures(files(data, data, grey(7, 112, 112)), "crop"))
    assert names(result) == ["embedding"]
    np.testing.assert_allclose(result.as_numpy("embedding"), [(10, 20, 30)] * 2 + [(7, 7, 7)])
    with pytest.raises(InferenceServerException, match=r"picture 1 .* 64x64 pixels .* 112x112"):
        await client.infer("embedder", pictures(files(data, grey(7)), "crop"))


BROKEN = [
    (b"no picture at all", "INVALID_ARGUMENT", "unknown format"),
    (b"", "INVALID_ARGUMENT", "image is empty"),
    (grey(9, kind=".jpg")[:-300], "INVALID_ARGUMENT", "JPEG"),
    (grey(9, 1001, 1000), "RESOURCE_EXHAUSTED", "--max-image-pixels"),
]


@pytest.mark.parametrize(("data", "code", "words"), BROKEN, ids=[case[2] for case in BROKEN])
async def test_a_broken_picture_is_named_and_costs_nobody_else_anything(
    running: NaiadServer, client: Any, data: bytes, code: str, words: str
) -> None:
    """Others at the same time are answered; so is the next one, and nothing is left behind."""
    bad = client.infer("detector", pictures(files(grey(1), grey(2), data)))
    good = [client.infer("detector", pictures(files(grey(51)))) for _ in range(4)]
    answers: list[Any]
    failed, *answers = await asyncio.gather(bad, *good, return_exceptions=True)
    assert isinstance(failed, InferenceServerException)
    assert failed.status() == f"StatusCode.{code}"
    assert failed.message().startswith("picture 2 (the first is 0) of input 'image': ")
    assert words in failed.message()
    for answer in answers:
        assert answer.as_numpy("naiad_scores") == pytest.approx([0.2])
    await asyncio.wait_for(running.manager.drain(), 20)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([2, 2], r"Expected [-1] or [-1,1] for image files, got [2,2]"),
        ([2, 1, 1], r"got [2,1,1]"),
        ([1] * 12, r"got [1,1,1,1,1,1,1,1,...]"),
        ([0], "batch-size must be >= 1 for 'detector', got 0"),
        ([9], "9 pictures in input 'image': inference request batch-size must be <= 8 for 'detector'"),
        ([3], "expected 3 string elements for inference input 'image'"),
        ([1], "unexpected number of string elements 2 for inference input 'image'"),
    ],
)
async def test_a_wrong_shape_is_refused_with_what_is_taken(client: Any, shape: list[int], words: str) -> None:
    tensor = triton.InferInput("image", [2], "BYTES")
    tensor.set_data_from_numpy(files(b"a", b"b"))
    tensor.set_shape(shape)
    with pytest.raises(InferenceServerException) as raised:
        await client.infer("detector", [tensor], request_id="r")
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert words in raised.value.message()
    assert raised.value.message().startswith("[request id: r] ")


async def test_what_needs_another_input_size_cannot_be_one_batch(tmp_path: Path) -> None:
    """A model of any size: alike pictures are one batch, others are named with both sizes."""
    text = DETECTOR_CONFIG.replace("[ 64, 64, 3 ]", "[ -1, -1, 3 ]").replace(
        '"naiad.input.resize" value { string_value: "letterbox"',
        '"naiad.input.resize" value { string_value: "none"',
    )
    add_model(tmp_path, "detector", free_size(), text + ACCEPTS)
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        result = await client.infer("detector", pictures(files(grey(51, 40, 30), grey(102, 40, 30))))
        np.testing.assert_allclose(result.as_numpy("naiad_scores"), (0.2, 0.4), atol=1e-6)
        with pytest.raises(
            InferenceServerException, match=r"picture \d .*\[30, 40, 3\].*naiad.input.size"
        ) as raised:
            await client.infer("detector", pictures(files(grey(1, 40, 30), grey(1, 20, 30))))
        assert "[30, 20, 3]" in raised.value.message()


def free_size() -> Any:
    """The brightness detector for pictures of any size."""
    model = brightness_detector()
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, name in zip(dims[1:3], "HW", strict=True):
        dim.ClearField("dim_value")
        dim.dim_param = name
    return model


async def test_a_model_that_does_not_say_so_takes_no_files(client: Any) -> None:
    """In Triton's words, and so it stays for the metadata, which speak of numbers."""
    words = "data-type is 'BYTES', but model 'plain' expects 'UINT8'"
    with pytest.raises(InferenceServerException, match=words):
        await client.infer("plain", pictures(files(grey(1))))
    told, plain = [await client.get_model_metadata(name, as_json=True) for name in ("detector", "plain")]
    assert (
        told["inputs"]
        == plain["inputs"]
        == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "64", "64", "3"]}]
    )
    assert told["outputs"] == plain["outputs"]


async def test_another_input_or_one_more_is_refused_in_tritons_words(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="unexpected inference input 'photo' for model"):
        await client.infer("detector", pictures(files(grey(1)), "photo"))
    with pytest.raises(InferenceServerException, match="expected 1 inputs but got 2 inputs"):
        await client.infer("detector", pictures(files(grey(1))) + pictures(files(grey(1)), "more"))


async def test_classes_and_sequences_are_refused(client: Any) -> None:
    outputs = [triton.InferRequestedOutput("naiad_scores", class_count=1)]
    with pytest.raises(InferenceServerException, match="'naiad_scores' cannot be asked for as classes"):
        await client.infer("detector", pictures(files(grey(1))), outputs=outputs)
    with pytest.raises(InferenceServerException, match="sequence_id is 7: .* belongs to no sequence"):
        await client.infer("detector", pictures(files(grey(1))), sequence_id=7)


async def test_a_raw_output_may_be_asked_for_as_classes(client: Any) -> None:
    outputs = [triton.InferRequestedOutput("scores", class_count=1)]
    result = await client.infer("detector", pictures(files(grey(51))), outputs=outputs)
    [[text]] = result.as_numpy("scores")
    assert text.decode().startswith("0.2")


async def test_a_stream_of_files_is_answered_in_order_and_a_broken_one_in_band(client: Any) -> None:
    values = [number * 7 for number in range(30)]

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, value in enumerate(values):
            data = b"broken" if number == 10 else grey(value, 64 + number, 64 + number)
            yield {"model_name": "detector", "inputs": pictures(files(data)), "request_id": str(number)}

    answers = [answer async for answer in client.stream_infer(requests())]
    assert len(answers) == len(values)
    for number, (result, error) in enumerate(answers):
        if number == 10:
            assert "picture 0" in error.message()
            continue
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("naiad_scores") == pytest.approx([values[number] / 255], abs=1e-4)


async def test_files_in_shared_memory_and_faces_back_to_it(client: Any) -> None:
    sent = serialize_byte_tensor(files(grey(51), grey(102)))
    size = serialized_byte_size(sent)
    key = f"/naiad_encoded_{uuid.uuid4().hex}"
    region = shm.create_shared_memory_region("pictures", key, size + 64)
    try:
        shm.set_shared_memory_region(region, [sent])
        await client.register_system_shared_memory("pictures", key, size + 64)
        tensor = triton.InferInput("image", [2], "BYTES")
        tensor.set_shared_memory("pictures", size)
        output = triton.InferRequestedOutput("naiad_scores")
        output.set_shared_memory("pictures", 8, offset=size)
        await client.infer("detector", [tensor], outputs=[output])
        found = shm.get_contents_as_numpy(region, np.float32, [2], size).copy()
        np.testing.assert_allclose(found, (0.2, 0.4), atol=1e-6)
        output.set_shared_memory("pictures", 4, offset=size)
        with pytest.raises(InferenceServerException, match="should be at least 8 bytes"):
            await client.infer("detector", [tensor], outputs=[output])
        await client.unregister_system_shared_memory("pictures")
    finally:
        shm.destroy_shared_memory_region(region)


async def test_a_request_counts_as_one_with_its_pictures_as_batch_items(
    running: NaiadServer, client: Any
) -> None:
    await client.infer("detector", pictures(files(grey(1), grey(2), grey(3))))
    [counted] = (await client.get_inference_statistics("detector")).model_stats
    assert (counted.inference_stats.success.count, counted.inference_count, counted.execution_count) == (
        1,
        3,
        1,
    )
    host, port = metrics_address(running).split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    assert 'nv_inference_request_success{model="detector",version="1"} 1' in text


async def test_an_explained_request_says_both_why_and_where_the_time_went(client: Any) -> None:
    result = await client.infer(
        "detector", pictures(files(grey(1), grey(2))), parameters={"naiad_explain": True}
    )
    told = result.get_response().parameters
    assert told["naiad_batch_size"].int64_param == 2
    assert {*TIMES, "naiad_batch_reason", "naiad_queue_us"} <= set(told)


async def test_faces_are_those_of_the_vision_service_bit_for_bit(running: NaiadServer, client: Any) -> None:
    """On pictures of noise, of sizes that need resizing, as JPEG and PNG."""
    random = np.random.default_rng(1)
    async with grpc.aio.insecure_channel(address(running)) as channel:
        for kind in (".jpg", ".png"):
            for _ in range(5):
                width, height = random.integers(20, 200, 2)
                image = random.integers(0, 255, (height, width, 3)).astype(np.uint8)
                data = cv2.imencode(kind, image)[1].tobytes()
                for model in ("detector", "rows"):
                    expected = await detect(channel, model, data)
                    result = await client.infer(model, pictures(files(data)))
                    assert_equal_faces(result, expected)


async def detect(channel: Any, model: str, data: bytes) -> list[vision_pb2.Face]:
    """The faces that the vision service finds."""
    request = vision_pb2.DetectRequest(model_name=model, image=vision_pb2.Image(encoded=data))
    answer = await vision_pb2_grpc.VisionServiceStub(channel).Detect(request)
    return list(answer.faces)


def assert_equal_faces(result: Any, expected: list[vision_pb2.Face]) -> None:
    boxes = [[face.box.x1, face.box.y1, face.box.x2, face.box.y2] for face in expected]
    assert result.as_numpy("naiad_boxes").tolist() == boxes
    assert result.as_numpy("naiad_scores").tolist() == [face.score for face in expected]
    landmarks = [[[point.x, point.y] for point in face.landmarks] for face in expected]
    assert result.as_numpy("naiad_landmarks").tolist() == landmarks


YUNET = {
    "task": "detect",
    "head": "yunet",
    "input.color": "bgr",
    "input.size": "320x320",
    "input.resize": "letterbox",
}


@pytest.mark.assets
async def test_faces_in_photos_are_those_of_the_vision_service_bit_for_bit(
    assets: Path, tmp_path: Path
) -> None:
    text = "\n".join(
        f'parameters {{ key: "naiad.{key}" value {{ string_value: "{value}" }} }}'
        for key, value in YUNET.items()
    )
    add_model(tmp_path, "yunet", (assets / "models/yunet_n_dynamic.onnx").read_bytes(), text + ACCEPTS)
    found = 0
    async with (
        server(tmp_path) as running,
        triton.InferenceServerClient(address(running)) as client,
        grpc.aio.insecure_channel(address(running)) as channel,
    ):
        for photo in sorted((assets / "images").glob("*.[jp][pn]g")):
            expected = await detect(channel, "yunet", photo.read_bytes())
            result = await client.infer("yunet", pictures(files(photo.read_bytes()), "input"))
            assert_equal_faces(result, expected)
            found += len(expected)
    assert found > 20


async def test_over_http_too_with_the_answer_as_binary_or_as_json(running: NaiadServer) -> None:
    async with http.InferenceServerClient(http_address(running)) as client:
        sent = pictures(files(grey(51), grey(102)), module=http)
        for binary in (True, False):
            outputs = [http.InferRequestedOutput("naiad_scores", binary_data=binary)]
            result = await client.infer("detector", sent, outputs=outputs)
            np.testing.assert_allclose(result.as_numpy("naiad_scores"), (0.2, 0.4), atol=1e-6)
            assert {*TIMES} <= set(result.get_response()["parameters"])
        result = await client.infer("detector", sent, parameters={"naiad_score_threshold": 0.3})
        np.testing.assert_array_equal(result.as_numpy("naiad_image"), [1])
        with pytest.raises(InferenceServerException, match=r"\[400\] picture 0 "):
            await client.infer("detector", pictures(files(b"no picture"), module=http))


def ensemble(config: str, step: str) -> str:
    """An ensemble of one step, a detector whose tensors it has."""
    outputs = "".join(f'output_map {{ key: "{name}" value: "{name}" }}' for name in RAW)
    return config.replace("dynamic_batching { max_queue_delay_microseconds: 2000 }", "") + (
        f'platform: "ensemble" ensemble_scheduling {{ step {{ model_name: "{step}" model_version: -1 '
        f'input_map {{ key: "image" value: "image" }} {outputs} }} }}'
    )


@pytest.mark.parametrize("model", ["detector", "rows"])
async def test_a_body_that_is_nothing_but_a_file_is_enough_over_http(
    running: NaiadServer, model: str
) -> None:
    """As `curl --data-binary @photo.jpg` sends it; a body as long as the tensor is the tensor."""
    whole = {"Inference-Header-Content-Length": "0"}
    async with http_session(running) as post:
        status, answer = await post(model, grey(51), whole)
        assert status == 200, answer
        [boxes] = [output for output in json.loads(answer)["outputs"] if output["name"] == "naiad_boxes"]
        assert boxes["data"][:4] == list(BOX if model == "detector" else (16, 16, 48, 48))
        status, answer = await post(model, bytes([51]) * (64 * 64 * 3), whole)
        assert status == 200, answer
        assert b"naiad_" not in answer
        status, answer = await post("plain", grey(51), whole)
        assert (status, b"byte size mismatch" in answer) == (400, True)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("detector", "send it with the header 'Inference-Header-Content-Length: 0'"),
        (
            "plain",
            "model 'plain' takes no image files: its config would have to say naiad.accepts \"encoded\", and the "
            "call the header 'Inference-Header-Content-Length: 0'",
        ),
    ],
)
async def test_who_sends_a_file_as_if_it_were_json_is_told_what_to_do(
    running: NaiadServer, model: str, told: str
) -> None:
    """By its bytes, as curl sends it without a type of its own, or by its type alone; JSON stays JSON."""
    async with http_session(running) as post:
        for body, kind, what in (
            (grey(51), "image/png", "an image file"),
            (grey(51), "application/x-www-form-urlencoded", "an image file"),
            (b"....ftypheic", "image/heic; x=1", "of type image/heic"),
        ):
            status, answer = await post(model, body, {"Content-Type": kind})
            error = f"failed to parse the request JSON buffer: the body is {what}; {told}"
            assert (status, json.loads(answer)) == (400, {"error": error})
        status, answer = await post(model, b" {}", {"Content-Type": "image/png"})
        assert (status, b"inputs" in answer) == (400, True)


@contextlib.asynccontextmanager
async def http_session(running: NaiadServer) -> AsyncIterator[Any]:
    """Posts a body to a model's infer endpoint."""
    async with aiohttp.ClientSession(f"http://{http_address(running)}") as session:

        async def post(model: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
            async with session.post(f"/v2/models/{model}/infer", data=body, headers=headers) as response:
                return response.status, await response.read()

        yield post


async def test_an_ensemble_takes_files_at_its_own_door(tmp_path: Path) -> None:
    """They are decoded before its steps, which take numbers."""
    write_models(tmp_path)
    add_model(tmp_path, "whole", {}, ensemble(DETECTOR_CONFIG, "plain") + ACCEPTS)
    (tmp_path / "whole" / "1").mkdir()
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        result = await client.infer("whole", pictures(files(grey(51), grey(102))))
        np.testing.assert_allclose(result.as_numpy("naiad_scores"), (0.2, 0.4), atol=1e-6)


async def test_an_ensemble_hands_no_files_to_a_step(tmp_path: Path) -> None:
    """A step's input is of the type that its graph has, also where the step itself would accept files."""
    write_models(tmp_path)
    whole = ensemble(DETECTOR_CONFIG.split("parameters")[0], "detector")
    whole = whole.replace("TYPE_UINT8 dims: [ 64, 64, 3 ]", "TYPE_STRING dims: [ 1 ]")
    add_model(tmp_path, "whole", {}, whole)
    (tmp_path / "whole" / "1").mkdir()
    async with server(tmp_path, exit_on_error=False) as running:
        [model] = [model for model in running.manager.models() if model.name == "whole"]
        reasons = [str(entry.reason) for entry in model.versions.values()]
    assert "inconsistent data type: TYPE_STRING" in str([model.problem, *reasons])


async def test_files_in_a_response_cache(tmp_path: Path) -> None:
    """The graph's answer is kept, not the faces: another threshold for the same picture is another answer."""
    add_model(
        tmp_path,
        "detector",
        brightness_detector(),
        DETECTOR_CONFIG + ACCEPTS + "response_cache { enable: true }",
    )
    async with (
        server(tmp_path, cache_config=("local,size=1000000",)) as running,
        triton.InferenceServerClient(address(running)) as client,
    ):
        for threshold, expected in ((0.0, 1), (0.5, 0), (0.1, 1)):
            result = await client.infer(
                "detector", pictures(files(grey(51))), parameters={"naiad_score_threshold": threshold}
            )
            assert len(result.as_numpy("naiad_scores")) == expected
        [counted] = (await client.get_inference_statistics("detector")).model_stats
        assert counted.inference_stats.cache_hit.count == 2


async def test_a_caller_that_leaves_leaves_nothing_behind(running: NaiadServer, client: Any) -> None:
    call = asyncio.create_task(client.infer("detector", pictures(files(*[grey(9, 900, 900)] * 8))))
    await asyncio.sleep(0)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    await asyncio.wait_for(running.manager.drain(), 20)


async def test_check_and_explain_say_that_files_are_taken(running: NaiadServer, tmp_path: Path) -> None:
    """Of the repository and of the running server; of a model that takes none nothing is said."""
    sentence = "takes whole image files as BYTES of 'image' too"

    async def told(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    repository = f"--model-repository={tmp_path}"
    for source in (repository, f"--url={address(running)}"):
        assert sentence in await told("explain", "detector", source)
        assert sentence not in await told("explain", "plain", source)
    assert (await told("check", str(tmp_path))).count(sentence) == 2  # detector and rows


async def test_a_traced_request_tells_of_the_models_input_and_of_the_faces(tmp_path: Path) -> None:
    """What the model was given is the pixels, not the file; a refused file is a trace too."""
    write_models(tmp_path / "models")
    path = tmp_path / "trace.json"
    config = (f"triton,file={path}", "level=TIMESTAMPS", "level=TENSORS", "rate=1")
    async with (
        server(tmp_path / "models", trace_config=config) as running,
        triton.InferenceServerClient(address(running)) as client,
    ):
        for data in (grey(51), grey(51)):
            await client.infer("detector", pictures(files(data)))
        with pytest.raises(InferenceServerException, match="unknown format"):
            await client.infer("detector", pictures(files(b"no picture")))
    text = path.read_text()
    assert text.count('"TENSOR_QUEUE_INPUT"') == 2
    assert text.count('"naiad_boxes"') == 2
    assert '"shape":"1,64,64,3"' in text.replace(" ", "")
