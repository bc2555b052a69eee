"""Image files through each of Triton's four Python clients, as an array of objects; and the example that does so."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from support.processes import ServerProcess
from support.repositories import add_model
from support.stock_clients import CLIENTS, PATIENCE_S, Endpoints, StockClient, connect
from support.vision_models import BOX, DETECTOR_CONFIG, brightness_detector
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ACCEPTS = '\nparameters { key: "naiad.accepts" value { string_value: "encoded" } }\n'
EXAMPLE = Path(__file__).resolve().parents[2] / "clients/python/examples/triton_photos.py"


def photo(value: int, width: int = 64, height: int = 64) -> bytes:
    """A grey JPEG."""
    return cv2.imencode(".jpg", np.full((height, width, 3), value, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    repository = tmp_path_factory.mktemp("encoded")
    add_model(repository, "detector", brightness_detector(), DETECTOR_CONFIG + ACCEPTS)
    with ServerProcess(repository) as server:
        yield Endpoints.of(server)


@pytest.fixture(params=CLIENTS)
async def client(request: pytest.FixtureRequest, endpoints: Endpoints) -> AsyncIterator[StockClient]:
    """Each of the four clients."""
    async with connect(request.param, endpoints) as connected:
        yield connected


async def test_files_in_an_object_array(client: StockClient) -> None:
    sent = np.array([photo(51), photo(102, 128, 128)], np.object_)
    for array in (sent, sent.reshape(-1, 1)):
        result = await client.infer("detector", {"image": array})
        np.testing.assert_allclose(result.as_numpy("naiad_scores"), (0.2, 0.4), atol=1e-3)
        expected = np.outer((1, 2), BOX).astype(np.float32)
        np.testing.assert_array_equal(result.as_numpy("naiad_boxes"), expected)
        np.testing.assert_array_equal(result.as_numpy("naiad_image"), (0, 1))


async def test_named_outputs_and_parameters(client: StockClient) -> None:
    sent = {"image": np.array([photo(51), photo(102)], np.object_)}
    outputs = [client.output("naiad_image"), client.output("scores")]
    result = await client.infer(
        "detector", sent, outputs=outputs, parameters={"naiad_score_threshold": 0.3, "naiad_max_faces": 1}
    )
    np.testing.assert_array_equal(result.as_numpy("naiad_image"), [1])
    np.testing.assert_allclose(result.as_numpy("scores"), [[0.2], [0.4]], atol=1e-3)
    assert result.as_numpy("naiad_boxes") is None


async def test_a_broken_file_is_the_callers_fault(client: StockClient) -> None:
    sent = {"image": np.array([photo(51), photo(102)[:-99]], np.object_)}
    with pytest.raises(InferenceServerException, match=r"picture 1 \(the first is 0\).*JPEG") as raised:
        await client.infer("detector", sent)
    assert client.status("INVALID_ARGUMENT", 400) in str(raised.value.status())


async def test_a_compressed_request(client: StockClient) -> None:
    sent = {"image": np.array([photo(51)], np.object_)}
    result = await client.infer("detector", sent, **client.compressed("gzip"))
    np.testing.assert_allclose(result.as_numpy("naiad_scores"), [0.2], atol=1e-3)


def test_a_stream_of_the_blocking_client(endpoints: Endpoints) -> None:
    """Its own threads write and read: answers come in order, a broken file is an error of its own request."""
    module = CLIENTS["grpc"]
    answers: Queue[tuple[Any, Any]] = Queue()
    with module.InferenceServerClient(endpoints.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(12):
            data = b"no picture" if number == 5 else photo(20 * number)
            tensor = module.InferInput("image", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[data]], np.object_))
            client.async_stream_infer("detector", [tensor], request_id=str(number))
        for number in range(12):
            result, error = answers.get(timeout=PATIENCE_S)
            if number == 5:
                assert "picture 0" in str(error)
                continue
            assert error is None
            assert result.get_response().id == str(number)
            np.testing.assert_allclose(result.as_numpy("naiad_scores"), [number * 20 / 255], atol=4e-3)
        client.stop_stream()


def test_the_example(endpoints: Endpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a face that is above the threshold."""
    paths = [tmp_path / "dark.jpg", tmp_path / "light.jpg"]
    for path, value in zip(paths, (51, 204), strict=True):
        path.write_bytes(photo(value))
    spec = importlib.util.spec_from_file_location("triton_photos", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = [*map(str, paths), "--address", endpoints.grpc, "--model", "detector", "--threshold", "0.5"]
    assert module.main(arguments) == 0
    assert capsys.readouterr().out == f"{paths[1]}: 0.800  8 16 40 56\n"
