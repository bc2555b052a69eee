"""Real photos through Analyze and Compare, with YuNet and MobileFaceNet: full batches, and people told apart."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import pytest
from support.repositories import add_model
from support.servers import address, server
from tritonclient.grpc import service_pb2 as triton_pb
from tritonclient.grpc import service_pb2_grpc as triton_grpc

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.assets, pytest.mark.timeout(180)]

MAX_BATCH = 8
YUNET = {
    "task": "detect",
    "head": "yunet",
    "input.color": "bgr",
    "input.size": "640x640",
    "input.resize": "letterbox",
}
MOBILEFACENET = {
    "task": "embed",
    "input.mean": "123.675,116.28,103.53",
    "input.scale": "0.01712475,0.01750700,0.01742919",
    "embed.normalize": "true",
}


def config(parameters: Mapping[str, str]) -> str:
    lines = (
        f'parameters {{ key: "naiad.{key}" value {{ string_value: "{value}" }} }}'
        for key, value in parameters.items()
    )
    return f"max_batch_size: {MAX_BATCH}\ndynamic_batching {{ }}\n" + "\n".join(lines)


@pytest.fixture
async def channel(assets: Path, tmp_path: Path) -> AsyncIterator[Any]:
    models = {"yunet": ("yunet_n_dynamic", YUNET), "faces": ("mobilefacenet_128_dynamic", MOBILEFACENET)}
    for name, (file, parameters) in models.items():
        add_model(tmp_path, name, (assets / f"models/{file}.onnx").read_bytes(), config(parameters))
    async with server(tmp_path) as running, grpc.aio.insecure_channel(address(running)) as opened:
        yield opened


@pytest.fixture
def stub(channel: Any) -> Any:
    return vision_pb2_grpc.VisionServiceStub(channel)


def photo(assets: Path, name: str) -> pb.Image:
    folder = assets if name.startswith("video/") else assets / "images"
    return pb.Image(encoded=(folder / name).read_bytes())


async def runs(channel: Any, name: str) -> tuple[int, int]:
    """How often a model ran, and how many items it ran."""
    service = triton_grpc.GRPCInferenceServiceStub(channel)
    answer = await service.ModelStatistics(triton_pb.ModelStatisticsRequest(name=name))
    [stats] = answer.model_stats
    return stats.execution_count, stats.inference_count


async def test_a_group_photo_takes_one_run_of_the_detector_and_full_batches_of_the_embedder(
    stub: Any, channel: Any, assets: Path
) -> None:
    """All 29 people of the Solvay conference of 1927."""
    before = await runs(channel, "yunet"), await runs(channel, "faces")
    answer = await stub.Analyze(pb.AnalyzeRequest(image=photo(assets, "solvay_1927_grey.png")))
    after = await runs(channel, "yunet"), await runs(channel, "faces")
    (detected, pictures), (embedded, faces) = (
        (new[0] - old[0], new[1] - old[1]) for old, new in zip(before, after, strict=True)
    )
    assert len(answer.faces) == answer.embedded == faces == 29
    assert (detected, pictures) == (1, 1)
    assert embedded <= math.ceil(29 / MAX_BATCH)
    assert all(math.isclose(np.linalg.norm(face.embedding.values), 1, abs_tol=1e-4) for face in answer.faces)


class Person(NamedTuple):
    """A face of a known person, and its vector as the server gave it."""

    name: str
    where: str
    vector: np.ndarray


async def people(stub: Any, assets: Path) -> list[Person]:
    """Each known face of the golden results, found again among the faces of its whole photo."""
    golden = json.loads((assets / "golden/mobilefacenet_128_dynamic.json").read_text())
    known, answers = [], {}
    for crop in golden["crops"]:
        name = crop["photo"]
        if name not in answers:
            answers[name] = await stub.Analyze(pb.AnalyzeRequest(image=photo(assets, name)))
        landmarks = np.array(crop["landmarks"])
        face = min(answers[name].faces, key=lambda face: np.abs(points(face) - landmarks).max())
        assert np.abs(points(face) - landmarks).max() < 0.1 * np.ptp(landmarks), crop["file"]
        known.append(Person(crop["person"], crop["file"], np.array(face.embedding.values)))
    return known


def points(face: pb.Face) -> np.ndarray:
    return np.array([(point.x, point.y) for point in face.landmarks])


MARGIN = 0.2
"""What must lie between the least alike pair of one person and the most alike pair of two."""


async def test_every_pair_of_one_person_is_more_alike_than_every_pair_of_two(stub: Any, assets: Path) -> None:
    """Sixteen faces of eight people, from whole photos through Analyze."""
    known = await people(stub, assets)
    same: dict[tuple[str, str], float] = {}
    different: dict[tuple[str, str], float] = {}
    for left, right in itertools.combinations(known, 2):
        pairs = same if left.name == right.name else different
        pairs[left.where, right.where] = float(left.vector @ right.vector)
    assert len(same) >= 12
    assert len(different) >= 100
    assert min(same.values()) > max(different.values()) + MARGIN, (
        min(same.items(), key=lambda pair: pair[1]),
        max(different.items(), key=lambda pair: pair[1]),
    )


@pytest.mark.parametrize(
    ("photos", "alike"),
    [
        (("obama_a.jpg", "obama_b.jpg"), True),
        (("obama_1080p.jpg", "obama_a.jpg"), True),
        (("obama_a.jpg", "biden_a.jpg"), False),
        (("einstein.png", "newton.png"), False),
    ],
)
async def test_compare_tells_people_apart(
    stub: Any, channel: Any, assets: Path, photos: tuple[str, str], alike: bool
) -> None:
    """From two photos, found in one run and embedded in one."""
    before = await runs(channel, "yunet"), await runs(channel, "faces")
    sides = [pb.ComparedFace(image=photo(assets, name)) for name in photos]
    answer = await stub.Compare(pb.CompareRequest(first=sides[0], second=sides[1]))
    assert (answer.similarity > 0.45) is alike
    after = await runs(channel, "yunet"), await runs(channel, "faces")
    assert [new[0] - old[0] for old, new in zip(before, after, strict=True)] == [1, 1]
    vectors = [np.array(face.embedding.values) for face in (answer.first, answer.second)]
    assert answer.similarity == pytest.approx(vectors[0] @ vectors[1], abs=1e-4)


async def test_a_photo_without_faces_cannot_be_compared(stub: Any, assets: Path) -> None:
    nobody, somebody = (
        pb.ComparedFace(image=photo(assets, name)) for name in ("noface_cartoon.jpg", "obama_a.jpg")
    )
    with pytest.raises(grpc.aio.AioRpcError, match=r"no face was found in second\.image"):
        await stub.Compare(pb.CompareRequest(first=somebody, second=nobody))
