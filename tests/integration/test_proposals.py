"""A server on a repository whose configs are what `naiad check --propose` wrote, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest
from support.heads import overlap
from support.proposals import WIDTH, adopt_proposals, row_embedder
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import BOX, brightness_detector

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from pathlib import Path

DETECTORS = {
    "yunet_n_320_320": "yunet",
    "yunet_n_640_640": "yunet",
    "yunet_s_640_640": "yunet",
    "ultraface_version-RFB-320": "ultraface",
    "ultraface_version-RFB-640": "ultraface",
    "retinaface_mobilenet025_640": "retinaface",
    "blazeface_front_128": "blazeface",
    "optional/nonpermissive/scrfd_2.5g_bnkps_640": "scrfd",
    "optional/nonpermissive/scrfd_500m_kps_dynamic": "scrfd",
    "optional/nonpermissive/yolov5n-0.5-face": "yolov5_face",
    "optional/nonpermissive/yolov8-lite-t-face": "yolov8_face",
}
"""Files whose golden results were made with the pre-processing that is proposed."""
EMBEDDERS = ("mobilefacenet_128", "mobilefacenet_128_dynamic", "mobileface_v3_256")
PHOTOS = ("obama_a.jpg", "two_people.jpg", "office_group.jpg", "lin_manuel_rgba.png", "noface_cartoon.jpg")
OTHERWISE_RESIZED = {"yolov8_face", "blazeface"}
"""Their projects resize by area, or pad before they resize: faces move a little, by no more than that explains."""


async def test_tiny_models_serve_images_with_what_was_proposed(tmp_path: Path) -> None:
    add_model(tmp_path, "detector", brightness_detector())
    add_model(tmp_path, "embedder", row_embedder())
    adopt_proposals(tmp_path)
    white = pb.Image(encoded=cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))[1].tobytes())
    crop = pb.Image(encoded=cv2.imencode(".png", np.full((112, 112, 3), 200, np.uint8))[1].tobytes())
    async with server(tmp_path) as running, grpc.aio.insecure_channel(address(running)) as channel:
        stub: Any = vision_pb2_grpc.VisionServiceStub(channel)
        found = await stub.Detect(pb.DetectRequest(model_name="detector", image=white))
        [face] = found.faces
        assert (face.box.x1, face.box.y1, face.box.x2, face.box.y2) == BOX
        answer = await stub.Embed(pb.EmbedRequest(model_name="embedder", image=crop))
        values = np.array(answer.embeddings[0].values)
        np.testing.assert_allclose(values, WIDTH**-0.5, rtol=1e-5)  # of length 1, all columns alike


def real_repository(assets: Path, folder: Path, files: list[str]) -> dict[str, str]:
    """A model without a config for each file, then the configs that are proposed; returns those."""
    for file in files:
        version = folder / name_of(file) / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").symlink_to(assets / "models" / f"{file}.onnx")
    return adopt_proposals(folder)


def name_of(file: str) -> str:
    return file.rsplit("/", maxsplit=1)[-1]


@pytest.mark.assets
@pytest.mark.parametrize("files", [list(DETECTORS)[:5], list(DETECTORS)[5:]], ids=["first", "last"])
async def test_real_detectors_find_the_golden_faces(files: list[str], assets: Path, tmp_path: Path) -> None:
    proposals = real_repository(assets, tmp_path, files)
    async with server(tmp_path) as running, grpc.aio.insecure_channel(address(running)) as channel:
        stub: Any = vision_pb2_grpc.VisionServiceStub(channel)
        for file in files:
            name, head = name_of(file), DETECTORS[file]
            assert f'key: "naiad.head" value {{ string_value: "{head}" }}' in proposals[name]
            golden = json.loads((assets / "golden" / f"{name}.json").read_text())
            for photo in PHOTOS:
                image = pb.Image(encoded=(assets / "images" / photo).read_bytes())
                found = await stub.Detect(pb.DetectRequest(model_name=name, image=image), timeout=60)
                where = f"{name} {photo}"
                compare(
                    found.faces, golden["photos"][photo]["faces"], where, nearly=head in OTHERWISE_RESIZED
                )


def compare(faces: Any, golden: list[dict[str, Any]], where: str, *, nearly: bool) -> None:
    """Each golden face wider than 40 pixels was found, and nothing where there is nothing."""
    least_overlap, most_score = (0.84, 0.1) if nearly else (0.93, 0.02)
    boxes = np.array([[f.box.x1, f.box.y1, f.box.x2, f.box.y2] for f in faces], np.float32).reshape(-1, 4)
    assert abs(len(boxes) - len(golden)) <= len(golden) // 10, where
    for face in golden:
        box = np.array(face["box"], np.float32)
        if box[2] - box[0] > 40:
            overlaps = overlap(box, boxes)
            assert overlaps.max() > least_overlap, where
            assert abs(faces[int(overlaps.argmax())].score - face["score"]) < most_score, where


@pytest.mark.assets
async def test_real_embedders_give_the_golden_vectors(assets: Path, tmp_path: Path) -> None:
    real_repository(assets, tmp_path, list(EMBEDDERS))
    async with server(tmp_path) as running, grpc.aio.insecure_channel(address(running)) as channel:
        stub: Any = vision_pb2_grpc.VisionServiceStub(channel)
        for name in EMBEDDERS:
            golden = json.loads((assets / "golden" / f"{name}.json").read_text())["embeddings"]
            for crop, expected in list(golden.items())[:6]:
                image = pb.Image(encoded=(assets / "images" / "aligned" / crop).read_bytes())
                answer = await stub.Embed(pb.EmbedRequest(model_name=name, image=image), timeout=60)
                cosine = np.dot(answer.embeddings[0].values, expected) / np.linalg.norm(expected)
                assert cosine > 0.999, f"{name} {crop}"
