"""Triton's image clients: they read the metadata and the config, prepare pictures and print `value (index) = label`."""

from __future__ import annotations

from queue import Queue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from support.example_models import CLASSIFIERS
from support.stock_clients import PATIENCE_S, StockClient, connect
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.stock_clients import Endpoints

# aiohttp says so of any body over a megabyte, which the stock client hands it as bytes.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

COLOURS = ("red", "green", "blue")


class Classifier(NamedTuple):
    """What an image client finds out about a model; `max_batch_size` 0 means that it takes no batches."""

    name: str
    input: str
    output: str
    max_batch_size: int
    format: str
    height: int
    width: int

    def batch(self, colours: Sequence[str]) -> np.ndarray:
        """Pictures each of one colour, as the model takes them: with a batch dimension only if it batches."""
        pictures = np.zeros((len(colours), self.height, self.width, 3), np.float32)
        for picture, colour in zip(pictures, colours, strict=True):
            picture[..., COLOURS.index(colour)] = 1
        if self.format == "FORMAT_NCHW":
            pictures = pictures.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(pictures if self.max_batch_size else pictures[0])


async def classifier(client: StockClient, name: str) -> Classifier:
    """Read a model's metadata and config as the image client does, with the checks that it makes."""
    metadata = await client.json("get_model_metadata", name, model_version="1")
    config = await client.model_config(name)
    (taken,), (given,) = metadata["inputs"], metadata["outputs"]
    (described,) = config["input"]
    batched = int(config.get("max_batch_size", 0)) > 0
    shape = [int(size) for size in taken["shape"]]
    assert (taken["datatype"], given["datatype"]) == ("FP32", "FP32")
    assert len(shape) == (4 if batched else 3)
    assert len(given["shape"]) == (2 if batched else 1)
    sizes = shape[-2:] if described["format"] == "FORMAT_NCHW" else shape[-3:-1]
    return Classifier(
        name, taken["name"], given["name"], int(config.get("max_batch_size", 0)), described["format"], *sizes
    )


def classes(result: Any, model: Classifier) -> list[list[tuple[float, int, str]]]:
    """For each picture the value, index and label of each class, parted as the image client parts them."""
    found = result.as_numpy(model.output)
    rows = found if model.max_batch_size else [found]
    parted = [[element.decode().split(":") for element in row] for row in rows]
    return [[(float(value), int(index), label) for value, index, label in row] for row in parted]


def request(client: StockClient, model: Classifier, colours: Sequence[str], count: int) -> dict[str, Any]:
    return {
        "model_name": model.name,
        "inputs": [client.input(model.input, model.batch(colours))],
        "outputs": [client.output(model.output, class_count=count)],
    }


def assert_found(rows: list[list[tuple[float, int, str]]], model: Classifier, colours: Sequence[str]) -> None:
    """Each picture's first class is its colour's, values fall, and each label is its index's."""
    assert len(rows) == len(colours)
    for row, colour in zip(rows, colours, strict=True):
        assert row[0][1] == CLASSIFIERS[model.name][COLOURS.index(colour)]
        assert [value for value, _, _ in row] == sorted((value for value, _, _ in row), reverse=True)
        assert [label for _, _, label in row] == [f"class {index}" for _, index, _ in row]


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("colour", COLOURS)
async def test_the_class_of_one_picture(stock: StockClient, name: str, colour: str) -> None:
    model = await classifier(stock, name)
    result = await stock.call("infer", **request(stock, model, [colour], 2), model_version="1")
    rows = classes(result, model)
    assert [len(row) for row in rows] == [2]
    assert_found(rows, model, [colour])


async def test_what_the_clients_read_of_the_three_classifiers(stock: StockClient) -> None:
    found = [await classifier(stock, name) for name in CLASSIFIERS]
    assert found == [
        Classifier("densenet_onnx", "data_0", "fc6_1", 0, "FORMAT_NCHW", 224, 224),
        Classifier(
            "inception_onnx", "input:0", "InceptionV3/Predictions/Softmax:0", 0, "FORMAT_NHWC", 299, 299
        ),
        Classifier("batched_classifier", "image", "scores", 8, "FORMAT_NCHW", 32, 32),
    ]


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (3, 3), (4, 4), (9, 4)])
async def test_a_batch_of_pictures_and_no_more_classes_than_there_are(
    stock: StockClient, asked: int, given: int
) -> None:
    model = await classifier(stock, "batched_classifier")
    colours = ["blue", "red", "green", "red", "blue"]
    result = await stock.call("infer", **request(stock, model, colours, asked))
    rows = classes(result, model)
    assert [len(row) for row in rows] == [given] * 5
    assert_found(rows, model, colours)


async def test_values_have_six_decimals_and_numbers_come_without_being_asked_as_classes(
    stock: StockClient,
) -> None:
    model = await classifier(stock, "batched_classifier")
    asked = request(stock, model, ["red"], 2)
    result = await stock.call("infer", **asked)
    assert result.as_numpy("scores").tolist() == [[b"1.000000:0:class 0", b"0.500000:1:class 1"]]
    asked["outputs"] = [stock.output("scores")]
    result = await stock.call("infer", **asked)
    np.testing.assert_allclose(result.as_numpy("scores"), [[1, 0.5, 0, 0]])


async def test_classes_of_bytes_are_refused(stock: StockClient) -> None:
    array = np.array([[b"text"]], np.object_)
    output = stock.output("OUTPUT0", class_count=1)
    with pytest.raises(InferenceServerException) as raised:
        await stock.infer("simple_identity", {"INPUT0": array}, outputs=[output])
    expected = "class result not available for output due to unsupported type 'BYTES'"
    assert raised.value.message() == expected


async def test_json_answers_of_http_hold_the_classes_as_texts(example_server: Endpoints) -> None:
    async with connect("http", example_server) as client:
        model = await classifier(client, "batched_classifier")
        asked = request(client, model, ["green"], 1)
        asked["outputs"] = [client.output("scores", class_count=1, binary_data=False)]
        result = await client.call("infer", **asked)
    (output,) = result.get_response()["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [1, 1], ["1.000000:1:class 1"])


@pytest.mark.parametrize("name", CLASSIFIERS)
async def test_pictures_on_a_stream(example_server: Endpoints, name: str) -> None:
    answers: Queue[tuple[Any, Any]] = Queue()
    async with connect("grpc", example_server) as client:
        model = await classifier(client, name)
        client.client.start_stream(lambda result, error: answers.put((result, error)))
        for number, colour in enumerate(COLOURS):
            asked = request(client, model, [colour], 3)
            client.client.async_stream_infer(**asked, request_id=str(number))
        client.client.stop_stream()
    for number, colour in enumerate(COLOURS):
        result, error = answers.get_nowait()
        assert error is None
        assert result.get_response().id == str(number)
        assert_found(classes(result, model), model, [colour])


async def test_pictures_by_callbacks_and_by_greenlets(example_server: Endpoints) -> None:
    answers: Queue[tuple[Any, Any]] = Queue()
    async with connect("grpc", example_server) as client:
        model = await classifier(client, "batched_classifier")
        asked = request(client, model, COLOURS, 1)
        client.client.async_infer(callback=lambda result, error: answers.put((result, error)), **asked)
        result, error = answers.get(timeout=PATIENCE_S)
    assert error is None
    assert_found(classes(result, model), model, COLOURS)
    async with connect("http", example_server) as client:
        handle = client.client.async_infer(**request(client, model, COLOURS, 1))
        assert_found(classes(handle.get_result(timeout=PATIENCE_S), model), model, COLOURS)
