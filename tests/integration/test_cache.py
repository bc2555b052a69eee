"""The response cache of a whole server: answers, statistics and metrics as Triton's clients see them."""

from __future__ import annotations

import asyncio
import http.client
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs
from support.model_control import touch
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, metrics_address, server
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.app import NaiadServer

CACHED = ADD_SUB_CONFIG + "\nresponse_cache { enable: true }\n"
SIZE = ("local,size=1048576",)


def request(first: int, second: int, *outputs: str) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="simple", id=str(first))
    for name, value in (("INPUT0", first), ("INPUT1", second)):
        message.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        message.raw_input_contents.append(np.full((1, 16), value, np.int32).tobytes())
    for name in outputs:
        message.outputs.add(name=name)
    return message


def values(reply: pb.ModelInferResponse) -> dict[str, int]:
    contents = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {tensor.name: int(np.frombuffer(data, np.int32)[0]) for tensor, data in contents}


class Client:
    """One channel to a server."""

    def __init__(self, running: NaiadServer) -> None:
        self.channel = grpc.aio.insecure_channel(address(running))
        self.stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    async def statistics(self) -> pb.ModelStatistics:
        reply = await self.stub.ModelStatistics(pb.ModelStatisticsRequest(name="simple"))
        return reply.model_stats[0]


async def test_a_hit_is_answered_counted_and_shown_as_triton_does(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), CACHED)
    async with server(tmp_path, cache_config=SIZE) as running:
        client = Client(running)
        async with client.channel:
            replies = [await client.stub.ModelInfer(request(*each)) for each in ((5, 3), (5, 3), (6, 3))]
            part = await client.stub.ModelInfer(request(5, 3, "OUTPUT1"))
            counted = await client.statistics()
            page = await asyncio.to_thread(_metrics, running)
    assert [values(reply) for reply in replies] == [
        {"OUTPUT0": 8, "OUTPUT1": 2},
        {"OUTPUT0": 8, "OUTPUT1": 2},
        {"OUTPUT0": 9, "OUTPUT1": 3},
    ]
    assert replies[1].id == "5"
    assert values(part) == {"OUTPUT1": 2}, "fewer outputs are another request"
    assert (counted.inference_count, counted.execution_count) == (3, 3)
    stats = counted.inference_stats
    assert (stats.success.count, stats.queue.count, stats.compute_infer.count) == (4, 4, 3)
    assert (stats.cache_hit.count, stats.cache_miss.count) == (1, 3)
    assert stats.cache_hit.ns > 0
    assert stats.cache_miss.ns > 0
    labels = '{model="simple",version="1"}'
    assert f"nv_cache_num_hits_per_model{labels} 1" in page
    assert f"nv_cache_num_misses_per_model{labels} 3" in page
    assert f"nv_inference_request_success{labels} 4" in page
    assert f"nv_inference_count{labels} 3" in page
    assert "nv_cache_hit_duration_per_model{" in page
    assert "nv_cache_miss_duration_per_model{" in page


def _metrics(running: NaiadServer) -> str:
    connection = http.client.HTTPConnection(metrics_address(running), timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


async def test_a_reloaded_version_answers_anew(tmp_path: Path) -> None:
    """The same file name, version and request, and another graph behind them."""
    folder = add_model(tmp_path, "simple", add_sub(), CACHED)
    settings = {"model_control_mode": "explicit", "load_model": ("simple",), "cache_config": SIZE}
    async with server(tmp_path, **settings) as running:
        client = Client(running)
        async with client.channel:
            before = await client.stub.ModelInfer(request(5, 3))
            swapped = add_sub()
            swapped.graph.node[0].op_type, swapped.graph.node[1].op_type = "Sub", "Add"
            (folder / "1" / "model.onnx").write_bytes(swapped.SerializeToString())
            touch(folder / "1" / "model.onnx")
            await client.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="simple"))
            after = await client.stub.ModelInfer(request(5, 3))
            counted = await client.statistics()
    assert (values(before), values(after)) == ({"OUTPUT0": 8, "OUTPUT1": 2}, {"OUTPUT0": 2, "OUTPUT1": 8})
    assert (counted.inference_stats.cache_hit.count, counted.inference_stats.cache_miss.count) == (0, 1)


@pytest.mark.parametrize(
    ("config", "flags", "warned"),
    [(CACHED, (), True), (ADD_SUB_CONFIG, SIZE, False)],
    ids=["no flag", "not in the config"],
)
async def test_nothing_is_cached_unless_the_flag_and_the_config_say_so(
    tmp_path: Path, config: str, flags: tuple[str, ...], warned: bool
) -> None:
    add_model(tmp_path, "simple", add_sub(), config)
    with capture_logs() as logs:
        async with server(tmp_path, cache_config=flags) as running:
            client = Client(running)
            async with client.channel:
                for _ in range(2):
                    await client.stub.ModelInfer(request(1, 1))
                counted = await client.statistics()
    assert counted.execution_count == 2
    assert (counted.inference_stats.cache_hit.count, counted.inference_stats.cache_miss.count) == (0, 0)
    assert any("without --cache-config" in str(entry.get("detail")) for entry in logs) is warned
