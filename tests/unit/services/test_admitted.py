"""What a request holds, and for how long: its regions of shared memory, its handle."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.tensors import InferRequest, InferResponse, ModelKey
from naiad.services.admitted import Admitted
from naiad.services.answer import HEAVY_TEXTS, Placements
from naiad.services.shared_memory.table import Region, RegionTable

if TYPE_CHECKING:
    from naiad.core.tensors import Array
    from naiad.lifecycle.version import ModelHandle
    from naiad.services.shared_memory.regions import Regions
    from naiad.services.shared_memory.table import Bytes

SIZE = 4 * (HEAVY_TEXTS + 1)


class SlowRegion(Region):
    """Is written to for as long as `go_on` is not set."""

    word = title = "slow"

    def __init__(self) -> None:
        super().__init__("r", SIZE)
        self.began, self.go_on = threading.Event(), threading.Event()
        self.events: list[str] = []

    def read(self, offset: int, byte_size: int) -> Bytes:
        raise NotImplementedError

    def write(self, offset: int, data: Bytes) -> None:
        self.began.set()
        self.go_on.wait(10)
        self.events.append("written")

    def close(self) -> None:
        self.events.append("closed")


class Handle:
    """Of a model with one output."""

    config = ModelConfig("m", 0, inputs=(), outputs=(TensorConfig("O", DataType.FP32, (-1,)),))

    def __init__(self) -> None:
        self.labels: dict[str, tuple[str, ...]] = {}
        self.released = False

    def release(self) -> None:
        self.released = True


async def test_a_region_is_not_closed_while_the_answer_of_a_cancelled_call_is_written_to_it() -> None:
    """Its descriptor could be another client's connection by then."""
    region, handle, table = SlowRegion(), Handle(), RegionTable(1)
    table.add(region)
    message = pb.ModelInferRequest(model_name="m")
    output = message.outputs.add(name="O")
    output.parameters["shared_memory_region"].string_param = "r"
    output.parameters["shared_memory_byte_size"].int64_param = SIZE
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    outputs: dict[str, Array] = {"O": np.ones(HEAVY_TEXTS + 1, dtype=np.float32)}
    future.set_result(InferResponse(ModelKey("m", 1), outputs))
    placements = Placements.of(message, cast("Regions", table))
    request = InferRequest("m", None, {})

    async def call() -> None:
        with Admitted(
            message, cast("ModelHandle", handle), placements, future, None, request=request
        ) as admitted:
            await admitted.answer()

    calling = asyncio.create_task(call())
    await asyncio.to_thread(region.began.wait, 10)
    calling.cancel()
    table.unregister(SlowRegion, "r")
    await asyncio.sleep(0)
    assert (region.events, handle.released) == ([], False)
    assert table.select(SlowRegion, "r") == [region]  # in use, and so still listed
    region.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert (region.events, handle.released) == (["written", "closed"], True)
