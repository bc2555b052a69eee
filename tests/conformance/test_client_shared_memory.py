"""Triton's client examples of shared memory: tensors that lie in regions, and objects used with and without."""

from __future__ import annotations

import base64
import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.stock_clients import CLIENTS, StockClient, as_text, connect, operands
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, serialized_byte_size
from tritonclient.utils import shared_memory as shm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.stock_clients import ControlServer

TENSOR_BYTES = 64
SUM = operands()["INPUT0"] + 1
DIFFERENCE = operands()["INPUT0"] - 1


@contextmanager
def region(name: str, byte_size: int) -> Iterator[tuple[Any, str]]:
    """Shared memory of this machine, its handle and its key; gone in the end."""
    key = f"/naiad_{name}_{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region(name, key, byte_size)
    try:
        yield handle, key
    finally:
        shm.destroy_shared_memory_region(handle)


def contents(handle: Any, datatype: Any, offset: int = 0) -> np.ndarray:
    """A copy of a tensor `[1, 16]` in a region, which can then be closed."""
    found: np.ndarray = shm.get_contents_as_numpy(handle, datatype, [1, 16], offset).copy()
    return found


@pytest.fixture
async def empty(stock: StockClient) -> AsyncIterator[StockClient]:
    """A client of a server that has no region, before the test and after it."""
    await unregister_all(stock)
    yield stock
    await unregister_all(stock)


async def unregister_all(client: StockClient) -> None:
    await client.call("unregister_system_shared_memory")
    await client.call("unregister_cuda_shared_memory")


async def register(client: StockClient, name: str, key: str, byte_size: int) -> None:
    await client.call("register_system_shared_memory", name, key, byte_size)


async def test_numbers_in_regions(empty: StockClient) -> None:
    """Both inputs in one region, both outputs in another, the second of each at an offset."""
    size = 2 * TENSOR_BYTES
    with region("input_data", size) as (into, in_key), region("output_data", size) as (out, out_key):
        await register(empty, "output_data", out_key, size)
        shm.set_shared_memory_region(into, list(operands().values()))
        await register(empty, "input_data", in_key, size)
        assert await empty.regions() == ["input_data", "output_data"]
        inputs, outputs = empty.inputs(operands()), [empty.output("OUTPUT0"), empty.output("OUTPUT1")]
        for number in range(2):
            inputs[number].set_shared_memory("input_data", TENSOR_BYTES, offset=number * TENSOR_BYTES)
            outputs[number].set_shared_memory("output_data", TENSOR_BYTES, offset=number * TENSOR_BYTES)
        result = await empty.call("infer", "simple", inputs, outputs=outputs)
        output = result.get_output("OUTPUT1")
        shape = output["shape"] if empty.over_http else list(output.shape)
        assert shape == [1, 16]
        np.testing.assert_array_equal(contents(out, np.int32), SUM)
        np.testing.assert_array_equal(contents(out, np.int32, TENSOR_BYTES), DIFFERENCE)
        await empty.call("unregister_system_shared_memory", "input_data")
        assert await empty.regions() == ["output_data"]
        await empty.call("unregister_system_shared_memory")
        assert await empty.regions() == []


async def test_strings_in_regions(empty: StockClient) -> None:
    """The region of the outputs is as large as the client guesses, and larger than what comes."""
    texts = [as_text(array) for array in operands().values()]
    sizes = [serialized_byte_size(serialize_byte_tensor(text)) for text in texts]
    half = max(sizes) + 512
    with (
        region("input_data", sum(sizes)) as (into, in_key),
        region("output_data", 2 * half) as (out, out_key),
    ):
        shm.set_shared_memory_region(into, [serialize_byte_tensor(text) for text in texts])
        await register(empty, "input_data", in_key, sum(sizes))
        await register(empty, "output_data", out_key, 2 * half)
        names = ("INPUT0", "INPUT1")
        inputs = empty.inputs(dict(zip(names, texts, strict=True)))
        inputs[0].set_shared_memory("input_data", sizes[0])
        inputs[1].set_shared_memory("input_data", sizes[1], offset=sizes[0])
        outputs = [empty.output("OUTPUT0"), empty.output("OUTPUT1")]
        for number, output in enumerate(outputs):
            output.set_shared_memory("output_data", half, offset=number * half)
        await empty.call("infer", "simple_string", inputs, outputs=outputs)
        for number, expected in enumerate((SUM, DIFFERENCE)):
            found = contents(out, np.object_, number * half)
            assert [int(text) for text in found.flat] == expected.flatten().tolist()


async def test_objects_used_again_with_regions_and_without(empty: StockClient) -> None:
    """Plain, then everything in regions, then one input plain, then one output plain, then plain again."""
    inputs, outputs = empty.inputs(operands()), [empty.output("OUTPUT0"), empty.output("OUTPUT1")]

    async def infer() -> Any:
        return await empty.call("infer", "simple", inputs, outputs=outputs)

    np.testing.assert_array_equal((await infer()).as_numpy("OUTPUT0"), SUM)
    size = 2 * TENSOR_BYTES
    with region("input_data", size) as (into, in_key), region("output_data", size) as (out, out_key):
        shm.set_shared_memory_region(into, list(operands(10).values()))
        await register(empty, "input_data", in_key, size)
        await register(empty, "output_data", out_key, size)
        for number in range(2):
            inputs[number].set_shared_memory("input_data", TENSOR_BYTES, offset=number * TENSOR_BYTES)
            outputs[number].set_shared_memory("output_data", TENSOR_BYTES, offset=number * TENSOR_BYTES)
        await infer()
        np.testing.assert_array_equal(contents(out, np.int32), operands()["INPUT0"] + 10)
        np.testing.assert_array_equal(contents(out, np.int32, TENSOR_BYTES), operands()["INPUT0"] - 10)

        inputs[0].set_data_from_numpy(operands()["INPUT0"] * 2)
        await infer()
        np.testing.assert_array_equal(contents(out, np.int32), operands()["INPUT0"] * 2 + 10)

        outputs[1].unset_shared_memory()
        result = await infer()
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), operands()["INPUT0"] * 2 - 10)
        np.testing.assert_array_equal(contents(out, np.int32, TENSOR_BYTES), operands()["INPUT0"] * 2 - 10)

        outputs[0].unset_shared_memory()
        inputs[1].set_data_from_numpy(operands(3)["INPUT1"])
        result = await infer()
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] * 2 + 3)


async def test_an_output_that_does_not_fit_its_region(empty: StockClient) -> None:
    with region("output_data", TENSOR_BYTES) as (_, key):
        await register(empty, "output_data", key, TENSOR_BYTES)
        output = empty.output("OUTPUT0")
        output.set_shared_memory("output_data", TENSOR_BYTES - 4)
        with pytest.raises(InferenceServerException) as raised:
            await empty.infer("simple", operands(), outputs=[output])
    assert raised.value.message().endswith(
        "shared memory size specified with the request for output 'OUTPUT0' (60 bytes) should be at least 64 "
        "bytes to hold the results"
    )


async def test_a_name_is_registered_once_and_only_for_memory_that_is_there(empty: StockClient) -> None:
    with region("input_data", TENSOR_BYTES) as (_, key):
        await register(empty, "input_data", key, TENSOR_BYTES)
        with pytest.raises(InferenceServerException) as raised:
            await register(empty, "input_data", key, TENSOR_BYTES)
        assert raised.value.message() == "shared memory region 'input_data' already in manager"
        with pytest.raises(
            InferenceServerException, match="Unable to open shared memory region: '/not_there'"
        ):
            await register(empty, "other", "/not_there", TENSOR_BYTES)
        assert await empty.regions() == ["input_data"]


async def test_a_region_that_nobody_registered(empty: StockClient) -> None:
    inputs = empty.inputs(operands())
    inputs[1].set_shared_memory("nowhere", TENSOR_BYTES)
    with pytest.raises(InferenceServerException, match="Unable to find shared memory region: 'nowhere'"):
        await empty.call("infer", "simple", inputs)


async def test_cuda_memory_that_is_none_is_refused(empty: StockClient) -> None:
    """With a GPU or without; the names of both kinds stay apart and nothing is registered."""
    assert await empty.regions("cuda") == []
    handle = base64.b64encode(bytes(64))
    with pytest.raises(InferenceServerException) as raised:
        await empty.call("register_cuda_shared_memory", "input_data", handle, 0, TENSOR_BYTES)
    assert raised.value.message() == "failed to register shared memory region: invalid args"
    assert raised.value.status() == empty.status("INVALID_ARGUMENT", 400)
    assert await empty.regions("cuda") == []
    await empty.call("unregister_cuda_shared_memory", "input_data")


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_server_that_allows_no_shared_memory_refuses_all_but_the_status(
    kind: str, control_server: ControlServer
) -> None:
    refused = (
        ("register_system_shared_memory", ("input_data", "/key", TENSOR_BYTES)),
        ("unregister_system_shared_memory", ()),
        ("register_cuda_shared_memory", ("input_data", base64.b64encode(bytes(64)), 0, TENSOR_BYTES)),
        ("unregister_cuda_shared_memory", ()),
    )
    async with connect(kind, control_server.endpoints) as client:
        assert await client.regions() == []
        for method, arguments in refused:
            with pytest.raises(InferenceServerException) as raised:
                await client.call(method, *arguments)
            assert raised.value.message() == (
                "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
            )
            assert raised.value.status() == client.status("UNIMPLEMENTED", 501)


async def test_a_region_that_shrinks_fails_the_requests_that_name_it_and_no_other(empty: StockClient) -> None:
    """Also requests whose like was answered before, which the model's own thread reads and writes."""
    with region("in", TENSOR_BYTES) as (into, in_key), region("out", TENSOR_BYTES) as (out, out_key):
        shm.set_shared_memory_region(into, [operands()["INPUT0"]])
        await register(empty, "in", in_key, TENSOR_BYTES)
        await register(empty, "out", out_key, TENSOR_BYTES)
        inputs, outputs = empty.inputs(operands()), [empty.output("OUTPUT0")]
        inputs[0].set_shared_memory("in", TENSOR_BYTES)
        outputs[0].set_shared_memory("out", TENSOR_BYTES)
        for value in range(3):
            shm.set_shared_memory_region(into, [operands()["INPUT0"] + value])
            await empty.call("infer", "simple", inputs, outputs=outputs)
            np.testing.assert_array_equal(contents(out, np.int32), SUM + value)
        for key, path in ((out_key, "out"), (in_key, "in")):
            os.truncate(f"/dev/shm{key}", 8)
            for _ in range(2):
                with pytest.raises(InferenceServerException, match=f"'{path}' is no longer as large"):
                    await empty.call("infer", "simple", inputs, outputs=outputs)
            plain = await empty.call("infer", "simple", empty.inputs(operands()))
            np.testing.assert_array_equal(plain.as_numpy("OUTPUT0"), SUM)
            os.truncate(f"/dev/shm{key}", TENSOR_BYTES)
        await empty.call("infer", "simple", inputs, outputs=outputs)
