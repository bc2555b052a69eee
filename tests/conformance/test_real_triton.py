"""A real tritonserver with real models: Naiad's client finds there what Naiad finds, and so does a Naiad before it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import structlog
from support.real_triton import find_triton, served_config, triton_process, write_python_model
from support.repositories import add_model
from support.servers import address, server

from naiad_client.aio import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from naiad.app import NaiadServer

pytestmark = [pytest.mark.assets, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

DETECTOR, EMBEDDER = "yunet", "mobilefacenet"
FILES = {DETECTOR: "yunet_n_320_320.onnx", EMBEDDER: "mobilefacenet_128_dynamic.onnx"}
PARAMETERS = {
    DETECTOR: {
        "task": "detect",
        "head": "yunet",
        "input.color": "bgr",
        "detect.score_threshold": "0.5",
        "detect.nms_iou": "0.45",
    },
    # torchvision's mean and standard deviation, on pixels of 0..255.
    EMBEDDER: {
        "task": "embed",
        "input.mean": "123.675,116.28,103.53",
        "input.scale": "0.01712475,0.01750700,0.01742919",
    },
}
PHOTOS = ("office_group.jpg", "obama_a.jpg", "two_people.jpg", "noface_landscape_exif6.jpg")


def config(parameters: dict[str, str]) -> str:
    return "\n".join(
        f'parameters {{ key: "naiad.{key}" value {{ string_value: "{value}" }} }}'
        for key, value in parameters.items()
    )


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The client takes the service's log off stdout, for the whole process."""
    yield
    structlog.reset_defaults()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def naiad(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NaiadServer]:
    """Naiad, which runs the models itself."""
    find_triton()
    models = tmp_path_factory.mktemp("models")
    for name, file in FILES.items():
        add_model(models, name, (assets / "models" / file).read_bytes(), config(PARAMETERS[name]))
    async with server(models) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def triton(
    naiad: NaiadServer, assets: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """A tritonserver with the same models under the same configs; it takes seconds to start and to stop."""
    folder = tmp_path_factory.mktemp("triton")
    repository = folder / "repository"
    async with grpc.aio.insecure_channel(address(naiad)) as channel:
        for name, file in FILES.items():
            served = await served_config(channel, name)
            write_python_model(repository, served, assets / "models" / file)
    with triton_process(folder, repository, sorted(FILES)) as running:
        yield running.address


async def faces_of(client: Client, photo: Path) -> tuple[np.ndarray, np.ndarray]:
    """Box, score and landmarks of each face, and the vectors."""
    found = (await client.detect(photo)).faces
    rows = [
        [*face.box, face.score, *(face.landmarks.ravel() if face.landmarks is not None else ())]
        for face in found
    ]
    vectors = (await client.embed(photo, found)).embeddings if found else np.empty((0, 0))
    return np.array(rows), vectors


async def test_three_ways_to_the_same_faces(
    naiad: NaiadServer, triton: str, assets: Path, tmp_path: Path
) -> None:
    """Naiad itself; its client with Triton; Naiad in front of Triton, with configs and no model files."""
    for name in FILES:
        add_model(tmp_path / "configs", name, {}, config(PARAMETERS[name]))
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(server(tmp_path / "configs", engine=f"triton://{triton}"))
        own = await stack.enter_async_context(Client(address(naiad), timeout=60))
        others = {
            "client": await stack.enter_async_context(Client(triton, mode="triton", timeout=60)),
            "found out": await stack.enter_async_context(Client(triton, mode="auto", timeout=60)),
            "in front": await stack.enter_async_context(Client(address(front), timeout=60)),
        }
        total = 0
        for photo in PHOTOS:
            rows, vectors = await faces_of(own, assets / "images" / photo)
            total += len(rows)
            for way, client in others.items():
                other_rows, other_vectors = await faces_of(client, assets / "images" / photo)
                np.testing.assert_allclose(other_rows, rows, rtol=1e-4, atol=1e-3, err_msg=f"{way} {photo}")
                np.testing.assert_allclose(other_vectors, vectors, atol=1e-4, err_msg=f"{way} {photo}")
        assert total > 5
        assert others["client"].transports() == {triton: "system shared memory"}


async def test_streams_over_a_real_triton_keep_their_order(triton: str, assets: Path) -> None:
    frames = [assets / "images" / photo for photo in PHOTOS] * 6
    async with Client(triton, mode="triton") as client:
        alone: dict[Path, Any] = {photo: await client.detect(photo) for photo in frames[: len(PHOTOS)]}
        results = [frame async for frame in client.stream_detect(frames)]
    assert [frame.frame_id for frame in results] == list(range(len(frames)))
    for photo, frame in zip(frames, results, strict=True):
        scores = [face.score for face in frame.unwrap().faces]
        assert scores == pytest.approx([face.score for face in alone[photo].faces], abs=1e-4)
