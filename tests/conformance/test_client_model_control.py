"""Triton's client examples of model control: load, change, break and unload models by each of the stock clients."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.example_models import examples, write_example
from support.onnx_models import add_sub
from support.stock_clients import CLIENTS, StockClient, connect, load_config, operands
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.stock_clients import ControlServer, Endpoints


@pytest.fixture(params=CLIENTS)
async def control(
    request: pytest.FixtureRequest, control_server: ControlServer
) -> AsyncIterator[StockClient]:
    """Each of the four clients, on a server that has loaded nothing."""
    async with connect(request.param, control_server.endpoints) as client:
        yield client
        for name in ("simple", "from_files"):
            await client.call("unload_model", name)


@pytest.fixture
def eighth_model(control_server: ControlServer) -> Iterator[None]:
    """The repository has all of Triton's eight examples."""
    write_example(control_server.repository, "simple_identity", examples()["simple_identity"])
    yield
    shutil.rmtree(control_server.repository / "simple_identity")


async def refusal(control: StockClient, name: str, **arguments: object) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as raised:
        await control.call("load_model", name, **arguments)
    return raised.value


async def test_the_index_has_seven_models_of_which_none_is_loaded(control: StockClient) -> None:
    index = await control.index()
    assert len(index) == 7
    assert {"name": "simple_sequence"} in index


async def test_the_index_has_an_eighth_model_as_soon_as_its_folder_is_there(
    control: StockClient, eighth_model: None
) -> None:
    assert len(await control.index()) == 8


async def test_load_change_and_unload(control: StockClient) -> None:
    """The example from top to bottom."""
    assert await control.call("is_model_ready", "simple") is False
    await control.call("load_model", "simple")
    assert await control.call("is_model_ready", "simple") is True
    assert (await control.model_config("simple"))["max_batch_size"] == 8

    error = await refusal(control, "simple", config="")
    assert error.message() == "failed to load 'simple', failed to poll from model repository"
    assert await control.call("is_model_ready", "simple") is True

    await control.call("load_model", "simple", config='{"max_batch_size":"16"}')
    assert await control.call("is_model_ready", "simple") is True
    assert (await control.model_config("simple"))["max_batch_size"] == 16
    sixteen = {name: np.repeat(array, 16, axis=0) for name, array in operands().items()}
    result = await control.infer("simple", sixteen)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sixteen["INPUT0"] + 1)

    await control.call("unload_model", "simple")
    assert await control.call("is_model_ready", "simple") is False
    (entry,) = (entry for entry in await control.index() if entry["name"] == "simple")
    assert entry == {"name": "simple", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    with pytest.raises(
        InferenceServerException, match="Request for unknown model: 'simple' has no available"
    ):
        await control.infer("simple", operands())

    await control.call("load_model", "simple")
    assert (await control.model_config("simple"))["max_batch_size"] == 8


@pytest.mark.parametrize("config", ["", "{", '{"max_batch_size": "many"}', '{"unknown_field": 1}'])
async def test_a_config_that_is_none_is_refused(control: StockClient, config: str) -> None:
    error = await refusal(control, "simple", config=config)
    assert error.message() == "failed to load 'simple', failed to poll from model repository"
    assert error.status() == control.status("INTERNAL", 500)


async def test_a_wrong_name_is_refused(control: StockClient) -> None:
    error = await refusal(control, "wrong_model_name")
    assert error.message() == "failed to load 'wrong_model_name', failed to poll from model repository"
    assert error.status() == control.status("INTERNAL", 500)


async def test_unloading_what_was_never_loaded_is_no_error(control: StockClient) -> None:
    await control.call("unload_model", "wrong_model_name")
    await control.call("unload_model", "simple", unload_dependents=True)


async def test_files_that_come_with_the_request(control: StockClient) -> None:
    """A model that no folder has; the index does not name it."""
    config = load_config(backend="onnxruntime", max_batch_size=4)
    graph = add_sub().SerializeToString()
    await control.call("load_model", "from_files", config=config, files={"file:1/model.onnx": graph})
    result = await control.infer("from_files", operands(5))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), operands()["INPUT0"] - 5)
    assert len(await control.index()) == 7


async def test_a_file_with_too_long_a_name_is_refused_and_the_server_lives(control: StockClient) -> None:
    files = {f"file:{'A' * 256}": b"content"}
    error = await refusal(control, "simple", config=load_config(backend="onnxruntime"), files=files)
    assert error.message() == "failed to load 'simple', failed to poll from model repository"
    assert error.status() == control.status("INTERNAL", 500)
    assert await control.call("is_server_live") is True


async def test_a_server_in_another_mode_loads_and_unloads_nothing(
    stock: StockClient, example_server: Endpoints
) -> None:
    for method in ("load_model", "unload_model"):
        with pytest.raises(InferenceServerException) as raised:
            await stock.call(method, "simple")
        assert raised.value.message() == "explicit model load / unload is not allowed if polling is enabled"
        assert raised.value.status() == stock.status("UNAVAILABLE", 503)
