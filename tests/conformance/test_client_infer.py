"""Triton's client examples: health, metadata and inference, by each of the four stock clients."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.stock_clients import StockClient, as_text, connect, operands
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from support.stock_clients import Endpoints

SUM = operands()["INPUT0"] + 1
DIFFERENCE = operands()["INPUT0"] - 1


async def test_health_and_metadata(stock: StockClient) -> None:
    assert await stock.call("is_server_live") is True
    assert await stock.call("is_server_ready") is True
    assert await stock.call("is_model_ready", "simple") is True
    assert await stock.call("is_model_ready", "wrong_model_name") is False
    server = await stock.json("get_server_metadata")
    assert server["name"] == "triton"
    assert {"classification", "sequence", "system_shared_memory", "statistics"} <= set(server["extensions"])
    metadata = await stock.json("get_model_metadata", "simple")
    assert metadata["name"] == "simple"
    assert metadata["versions"] == ["1"]
    assert metadata["platform"] == "onnxruntime_onnx"
    shapes = {tensor["name"]: [int(size) for size in tensor["shape"]] for tensor in metadata["inputs"]}
    assert shapes == {"INPUT0": [-1, 16], "INPUT1": [-1, 16]}
    assert (await stock.model_config("simple"))["name"] == "simple"


@pytest.mark.parametrize("method", ["get_model_metadata", "get_model_config"])
async def test_a_wrong_model_name_is_told_by_triton_s_words(stock: StockClient, method: str) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await stock.json(method, "wrong_model_name")
    assert raised.value.message().startswith("Request for unknown model: 'wrong_model_name' is not found")
    assert raised.value.status() == stock.status("NOT_FOUND", 404)


async def test_infer_with_and_without_a_list_of_outputs(stock: StockClient) -> None:
    both = [stock.output("OUTPUT0"), stock.output("OUTPUT1")]
    result = await stock.infer("simple", operands(), outputs=both, request_id="1")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), SUM)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), DIFFERENCE)
    result = await stock.infer("simple", operands())
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), SUM)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), DIFFERENCE)
    result = await stock.infer("simple", operands(), outputs=both[:1], model_version="1")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), SUM)
    assert result.as_numpy("OUTPUT1") is None


async def test_the_answer_names_the_request_the_model_and_its_version(stock: StockClient) -> None:
    result = await stock.infer("simple", operands(), request_id="the id")
    answer = result.get_response() if stock.over_http else result.get_response(as_json=True)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("the id", "simple", "1")
    assert [output["name"] for output in answer["outputs"]] == ["OUTPUT0", "OUTPUT1"]


async def test_statistics_of_a_model_are_exactly_one_entry_that_counts(stock: StockClient) -> None:
    before = await stock.statistics("simple")
    assert len(before) == 1
    await stock.infer("simple", operands())
    (after,) = await stock.statistics("simple")
    assert (after["name"], after["version"]) == ("simple", "1")
    for count in ("inference_count", "execution_count"):
        assert int(after[count]) == int(before[0].get(count, 0)) + 1
    successes = (int(each["inference_stats"]["success"].get("count", 0)) for each in (before[0], after))
    assert next(successes) + 1 == next(successes)
    assert len(await stock.statistics()) == 12


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compressed_requests_and_answers(stock: StockClient, algorithm: str) -> None:
    many = {name: np.repeat(array, 8, axis=0) for name, array in operands().items()}
    result = await stock.infer("simple", many, **stock.compressed(algorithm))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), np.repeat(SUM, 8, axis=0))


async def test_headers_and_query_parameters_that_nobody_knows_do_no_harm(stock: StockClient) -> None:
    queries: dict[str, Any] = {"query_params": {"test_1": 1, "test_2": [2, 3]}} if stock.over_http else {}
    result = await stock.infer("simple", operands(), headers={"test": "1", "x-other": "a b"}, **queries)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), SUM)
    assert await stock.call("is_server_live", headers={"test": "1"})


async def test_parameters_of_the_caller_s_own_are_taken(stock: StockClient) -> None:
    parameters = {"word": "x", "number": 3, "flag": True}
    result = await stock.infer("simple", operands(), parameters=parameters, timeout=1000, priority=1)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), SUM)


async def test_strings_of_decimal_text(stock: StockClient) -> None:
    arrays = {name: as_text(array) for name, array in operands().items()}
    result = await stock.infer("simple_string", arrays)
    assert [int(each) for each in result.as_numpy("OUTPUT0").flat] == SUM.flatten().tolist()
    assert [int(each) for each in result.as_numpy("OUTPUT1").flat] == DIFFERENCE.flatten().tolist()


@pytest.mark.parametrize(
    "word", ["", "he\x00llo", "Gruß 水", "ends in NUL\x00"], ids=["empty", "NUL", "UTF-8", "NUL at the end"]
)
async def test_strings_of_any_kind_come_back_as_they_went(stock: StockClient, word: str) -> None:
    array = np.array([[word.encode()] * 16], np.object_)
    result = await stock.infer("simple_identity", {"INPUT0": array})
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


async def test_int8(stock: StockClient) -> None:
    result = await stock.infer("simple_int8", operands(datatype=np.int8))
    assert result.as_numpy("OUTPUT1").dtype == np.int8
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), SUM)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), DIFFERENCE)


@pytest.mark.parametrize("kind", ["http", "http.aio"])
async def test_json_and_binary_tensors_mix_in_one_request(kind: str, example_server: Endpoints) -> None:
    for model, arrays in (
        ("simple", operands()),
        ("simple_string", {name: as_text(array) for name, array in operands().items()}),
    ):
        async with connect(kind, example_server) as client:
            inputs = [
                client.input("INPUT0", arrays["INPUT0"], binary_data=False),
                client.input("INPUT1", arrays["INPUT1"], binary_data=True),
            ]
            outputs = [
                client.output("OUTPUT0", binary_data=True),
                client.output("OUTPUT1", binary_data=False),
            ]
            result = await client.call("infer", model, inputs, outputs=outputs)
            assert [int(each) for each in result.as_numpy("OUTPUT0").flat] == SUM.flatten().tolist()
            assert [int(each) for each in result.as_numpy("OUTPUT1").flat] == DIFFERENCE.flatten().tolist()


async def test_inputs_and_outputs_are_used_again_for_other_data(stock: StockClient) -> None:
    inputs = stock.inputs(operands())
    outputs = [stock.output("OUTPUT0")]
    for value in (1, 5, -3):
        inputs[1].set_data_from_numpy(operands(value)["INPUT1"])
        result = await stock.call("infer", "simple", inputs, outputs=outputs)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + value)


async def test_many_inferences_do_not_make_the_server_grow(
    stock: StockClient, example_server: Endpoints
) -> None:
    """After the first ones, 60 MB in and 60 MB out leave less than 20 MB behind."""
    array = np.arange(128 * 1024, dtype=np.int32).reshape(1, -1)
    resident = []
    for count in (30, 120):
        for _ in range(count):
            result = await stock.infer("custom_identity_int32", {"INPUT0": array})
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)
        resident.append(_resident_bytes(example_server.pid))
    assert resident[1] - resident[0] < 20 * 2**20


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        pytest.skip("this system does not tell a process's memory")
    found = re.search(r"VmRSS:\s*(\d+) kB", status.read_text())
    assert found
    return int(found[1]) * 1024
