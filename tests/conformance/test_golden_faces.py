"""Real detectors and an embedder on real photos, through the whole server: as the source projects' own code finds."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton
from support.clips import frames
from support.repositories import add_model
from support.servers import address, server
from support.triton import infer_inputs

from naiad.demo.mtcnn import build_mtcnn
from naiad_client.aio import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from pathlib import Path

    from naiad.app import NaiadServer

pytestmark = [pytest.mark.assets, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

CROWDS = {"selfie_crowd.jpg", "stadium_crowd.jpg"}
"""Photos with faces near every threshold: their counts flip with the decoder."""


class Detector(NamedTuple):
    """A model file, the golden results it is held to, and its `naiad.` parameters."""

    file: str
    golden: str
    parameters: Mapping[str, str]


YUNET = {"head": "yunet", "input.color": "bgr", "detect.score_threshold": "0.5", "detect.nms_iou": "0.45"}
ULTRAFACE = {
    "head": "ultraface",
    "input.resize": "stretch",
    "input.mean": "127",
    "input.scale": "0.0078125",
    "detect.score_threshold": "0.7",
    "detect.nms_iou": "0.3",
}
# torchvision's mean and standard deviation, on pixels of 0..255.
EMBEDDER = {
    "task": "embed",
    "input.mean": "123.675,116.28,103.53",
    "input.scale": "0.01712475,0.01750700,0.01742919",
}
RETINAFACE = {
    "head": "retinaface",
    "input.color": "bgr",
    "input.mean": "104,117,123",
    "detect.score_threshold": "0.6",
    "detect.nms_iou": "0.4",
}
SCRFD = {
    "head": "scrfd",
    "input.size": "640x640",
    "input.mean": "127.5",
    "input.scale": "0.0078125",
    "detect.nms_iou": "0.4",
}
DETECTORS = {
    "retinaface": Detector(
        "retinaface_mobilenet025_640.onnx", "retinaface_mobilenet025_640.json", RETINAFACE
    ),
    # No batch dimension in its outputs, and numbers for names.
    "scrfd_500m": Detector(
        "optional/nonpermissive/scrfd_500m_kps_dynamic.onnx", "scrfd_500m_kps_dynamic.json", SCRFD
    ),
    "ultraface_320": Detector("ultraface_version-RFB-320.onnx", "ultraface_version-RFB-320.json", ULTRAFACE),
    "yunet_320": Detector("yunet_n_320_320.onnx", "yunet_n_320_320.json", YUNET),
    "yunet_640": Detector("yunet_n_640_640.onnx", "yunet_n_640_640.json", YUNET),
}


def config(parameters: Mapping[str, str]) -> str:
    return "\n".join(
        f'parameters {{ key: "naiad.{key}" value {{ string_value: "{value}" }} }}'
        for key, value in parameters.items()
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NaiadServer]:
    """One server of all of them, which the tests only ask."""
    repository = tmp_path_factory.mktemp("golden_faces")
    for name, detector in DETECTORS.items():
        model = (assets / "models" / detector.file).read_bytes()
        add_model(repository, name, model, config({"task": "detect", **detector.parameters}))
    # The one detector with a batch dimension, at a fixed size so that mixed photos share batches.
    batched = {"task": "detect", **YUNET, "input.size": "320x320", "input.resize": "letterbox"}
    dynamic = (assets / "models/yunet_n_dynamic.onnx").read_bytes()
    delay = "dynamic_batching { max_queue_delay_microseconds: 30000 }\n"
    add_model(repository, "yunet_batched", dynamic, delay + config(batched))
    mobilefacenet = (assets / "models/mobilefacenet_128_dynamic.onnx").read_bytes()
    add_model(repository, "mobilefacenet", mobilefacenet, config(EMBEDDER))
    async with server(repository, max_image_bytes=64 * 2**20) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def client(running: NaiadServer) -> AsyncIterator[Client]:
    async with Client(address(running)) as connected:
        yield connected


def intersection_over_union(left: np.ndarray, right: np.ndarray) -> float:
    top_left = np.maximum(left[:2], right[:2])
    bottom_right = np.minimum(left[2:], right[2:])
    overlap = np.prod(np.maximum(0, bottom_right - top_left))
    areas = np.prod(left[2:] - left[:2]) + np.prod(right[2:] - right[:2])
    return float(overlap / (areas - overlap))


def assert_same_faces(found: Any, expected: list[dict[str, Any]], photo: str) -> None:
    """Each golden face has its own match: IoU above 0.95, the score within 0.01, landmarks within 5 % of its width."""
    assert len(found) == len(expected), photo
    for golden in expected:
        box = np.array(golden["box"])
        match = max(found, key=lambda face: intersection_over_union(np.array(face.box), box))
        assert intersection_over_union(np.array(match.box), box) > 0.95, photo
        assert match.score == pytest.approx(golden["score"], abs=0.01), photo
        if "landmarks" in golden:
            off = np.abs(match.landmarks - np.array(golden["landmarks"])).max()
            assert off < 0.05 * (box[2] - box[0]), photo


@pytest.mark.parametrize("name", DETECTORS)
async def test_detections_equal_the_golden_ones(client: Client, assets: Path, name: str) -> None:
    photos = json.loads((assets / "golden" / DETECTORS[name].golden).read_text())["photos"]
    checked = 0
    for photo, golden in photos.items():
        answer = await client.detect(assets / "images" / photo, model=name)
        assert [answer.image_width, answer.image_height] == golden["size"]
        if photo not in CROWDS:
            assert_same_faces(answer.faces, golden["faces"], photo)
            checked += len(golden["faces"])
    assert checked > 30


@pytest.mark.parametrize("name", ["ultraface_320", "yunet_640"])
@pytest.mark.parametrize("clip", ["hamilton_frames", "street_1080p"])
async def test_faces_of_a_videos_frames_equal_the_golden_ones(
    client: Client, assets: Path, name: str, clip: str
) -> None:
    """As a stream: JPEG frames of one clip, raw pixels of the other."""
    model = DETECTORS[name].golden.removesuffix(".json")
    golden = json.loads((assets / "golden" / f"video_{clip}__{model}.json").read_text())["frames"]
    compared = 0
    async for result in client.stream_detect(clip_frames(assets, clip, golden), model=name, color="bgr"):
        frame = list(golden)[result.frame_id]
        assert result.result is not None, result.error
        assert_same_large_faces(result.result.faces, golden[frame], frame)
        compared += sum(map(is_large, golden[frame]))
    assert compared > 20


def clip_frames(assets: Path, clip: str, names: Iterable[str]) -> Iterator[Any]:
    """The frames of a clip that have these names: of files, or numbers of a video's pictures."""
    if (assets / "video" / clip).is_dir():
        yield from (assets / "video" / clip / name for name in names)
        return
    wanted = set(map(int, names))
    for number, picture in enumerate(frames(assets, f"{clip}.mp4")):
        if number in wanted:
            yield picture


def is_large(face: Mapping[str, Any]) -> bool:
    """Wider than 40 pixels: smaller ones flip with the decoder."""
    return bool(face["box"][2] - face["box"][0] > 40)


def assert_same_large_faces(found: Any, expected: list[dict[str, Any]], frame: str) -> None:
    large = [face for face in expected if is_large(face)]
    matched = [
        max(found, key=lambda face: intersection_over_union(np.array(face.box), np.array(golden["box"])))
        for golden in large
    ]
    assert_same_faces(matched, large, frame)


MTCNN_CONFIG = """
max_batch_size: 4
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "landmarks" data_type: TYPE_FP32 dims: [ -1, 5, 2 ] },
  { name: "count" data_type: TYPE_INT32 dims: [ 1 ] reshape { shape: [ ] } }
]
"""


async def test_the_cascade_finds_in_photos_of_any_size_what_the_original_package_finds(
    assets: Path, tmp_path: Path
) -> None:
    """The whole MTCNN as one graph, without resizing, at the package's own defaults."""
    parameters = {"task": "detect", "head": "mtcnn", "input.resize": "none"}
    add_model(tmp_path, "mtcnn", build_mtcnn(), MTCNN_CONFIG + config(parameters))
    photos = json.loads((assets / "golden/mtcnn.json").read_text())["photos"]
    small = {
        photo: golden
        for photo, golden in photos.items()
        if golden["size"][0] * golden["size"][1] < 1_000_000 and photo not in CROWDS
    }
    async with server(tmp_path) as running, Client(address(running)) as client:
        for photo, golden in small.items():
            answer = await client.detect(assets / "images" / photo, timeout=60)
            assert_same_faces(answer.faces, golden["faces"], photo)
    assert sum(len(golden["faces"]) for golden in small.values()) >= 5


async def test_photos_sent_at_once_share_batches_and_each_gets_what_it_gets_alone(
    client: Client, assets: Path
) -> None:
    photos = sorted((assets / "images").glob("*.jpg"))
    alone = [await client.detect(photo, model="yunet_batched") for photo in photos]
    together = await asyncio.gather(*(client.detect(photo, model="yunet_batched") for photo in photos * 2))
    assert max(answer.timing.batch_size for answer in together) > 1
    for single, shared in zip(alone * 2, together, strict=True):
        assert len(single.faces) == len(shared.faces)
        for left, right in zip(single.faces, shared.faces, strict=True):
            np.testing.assert_allclose(left.box, right.box, atol=0.5)
            assert left.score == pytest.approx(right.score, abs=1e-3)


async def test_embeddings_of_whole_photos_equal_those_of_the_golden_crops(
    client: Client, assets: Path
) -> None:
    """The server aligns by the golden landmarks; the same face comes out, as the cosine says."""
    golden = json.loads((assets / "golden/mobilefacenet_128_dynamic.json").read_text())
    compared = 0
    for crop in golden["crops"]:
        photo = assets / "images" / crop["photo"]
        if not photo.is_file():
            continue
        landmarks = np.array(crop["landmarks"], np.float32)
        answer = await client.embed(photo, landmarks, model="mobilefacenet")
        expected = np.array(golden["embeddings"][crop["file"].split("/")[-1]])
        vector = answer.embeddings[0]
        cosine = vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected)
        assert cosine > 0.999, crop["file"]
        compared += 1
    assert compared >= 10


async def test_ultraface_as_published_answers_a_stock_client(running: NaiadServer, assets: Path) -> None:
    """Fixed batch of one, weights among its inputs, no tensors in its config: the golden tensors come out."""
    golden = json.loads((assets / "golden/ultraface_version-RFB-320.json").read_text())
    async with triton.InferenceServerClient(address(running)) as stock:
        for check in golden["io_check"]["checks"]:
            count = int(np.prod(check["input_shape"]))
            values = (np.arange(count, dtype=np.uint64) * 2654435761 % 2**32) / 2**32
            low, high = check["input_range"]
            tensor = (values * (high - low) + low).astype(np.float32).reshape(check["input_shape"])
            for version in ("", "1"):
                result = await stock.infer("ultraface_320", infer_inputs(input=tensor), model_version=version)
                for output in check["outputs"]:
                    array = result.as_numpy(output["name"])
                    assert list(array.shape) == output["shape"]
                    np.testing.assert_allclose(array.reshape(-1)[:8], output["first8"], atol=1e-4)
