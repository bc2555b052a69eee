"""A request that asks is told how its answer came about, in the words of `naiad explain`, over every wire."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto
from support.example_models import write_examples
from support.golden import make_repository
from support.onnx_models import add_sub, identity
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, http_address, metrics_address, server
from support.triton import infer_input
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException, triton_to_np_dtype
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.demo.repository import build_repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.app import NaiadServer

CONTRACT = Path(os.environ.get("NAIAD_TRITON_CONTRACT", Path(__file__).parents[3] / "shared" / "triton"))
ASK = {"naiad_explain": True}
DELAY = "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 2000 }"
# Nothing but a batch of eight ends it, however late the requests come.
PATIENT = DELAY.replace("2000", "60000000")
ONE = "instance_group [ { kind: KIND_CPU count: 1 } ]"
KEYS = {
    *(
        "naiad_model_version",
        "naiad_queue_us",
        "naiad_compute_us",
        "naiad_batch_size",
        "naiad_batch_requests",
    ),
    *("naiad_padding_rows", "naiad_batch_reason", "naiad_instance", "naiad_provider"),
}


def told(response: Any) -> dict[str, int | str]:
    """What a gRPC response says of itself."""
    parameters = response.parameters.items()
    return {
        key: getattr(value, value.WhichOneof("parameter_choice"))
        for key, value in parameters
        if key.startswith("naiad_")
    }


def add_sub_inputs(rows: int = 1) -> list[Any]:
    return [infer_input(f"INPUT{n}", np.ones((rows, 16), np.int32)) for n in (0, 1)]


async def asked(client: triton.InferenceServerClient, model: str, inputs: list[Any], **more: Any) -> Any:
    return told((await client.infer(model, inputs, parameters=ASK, **more)).get_response())


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    add_model(tmp_path, "waits", add_sub(), f"{ADD_SUB_CONFIG} {DELAY} {ONE}")
    add_model(tmp_path, "gathers", add_sub(), f"{ADD_SUB_CONFIG} {PATIENT} {ONE}")
    add_model(tmp_path, "alone", {2: add_sub(), 3: add_sub()}, ADD_SUB_CONFIG + ONE)
    async with server(tmp_path) as started:
        yield started


@pytest.fixture
async def client(running: NaiadServer) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(address(running)) as connected:
        yield connected


async def test_requests_of_one_batch_are_told_the_same_batch(client: triton.InferenceServerClient) -> None:
    """Two requests of three and five items make the preferred eight, long before the delay is over."""
    both = await asyncio.gather(*(asked(client, "gathers", add_sub_inputs(rows)) for rows in (3, 5)))
    for each in both:
        assert set(each) == KEYS
        assert (each["naiad_batch_size"], each["naiad_batch_requests"], each["naiad_padding_rows"]) == (
            8,
            2,
            0,
        )
        assert each["naiad_batch_reason"] == "preferred"
        assert (each["naiad_instance"], each["naiad_provider"]) == ("gathers_0_0", "CPUExecutionProvider")
        assert each["naiad_model_version"] == 1


async def test_a_request_that_waited_for_company_in_vain_is_told_so(
    client: triton.InferenceServerClient,
) -> None:
    alone = await asked(client, "waits", add_sub_inputs())
    assert (alone["naiad_batch_reason"], alone["naiad_batch_requests"]) == ("delay", 1)
    assert alone["naiad_queue_us"] >= 2_000


async def test_who_does_not_ask_is_told_nothing(client: triton.InferenceServerClient) -> None:
    for parameters in (None, {"naiad_explain": False}, {"mine": "x"}):
        result = await client.infer("alone", add_sub_inputs(), parameters=parameters)
        assert told(result.get_response()) == {}


async def test_a_wrong_value_is_refused(client: triton.InferenceServerClient) -> None:
    with pytest.raises(
        InferenceServerException, match="invalid value for 'naiad_explain' parameter: 'maybe'"
    ):
        await client.infer("alone", add_sub_inputs(), parameters={"naiad_explain": "maybe"})


async def test_each_answer_of_a_stream_is_told_its_own(client: triton.InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for parameters in (ASK, None, {"naiad_explain": "true"}):
            yield {"model_name": "alone", "inputs": add_sub_inputs(), "parameters": parameters}

    answers = [told(result.get_response()) async for result, _ in client.stream_infer(requests())]
    assert [set(each) for each in answers] == [KEYS, set(), KEYS]
    assert answers[0]["naiad_model_version"] == 3


@pytest.mark.parametrize("value", [True, "true"])
async def test_http_says_the_same(running: NaiadServer, value: object) -> None:
    tensors = [{"name": f"INPUT{n}", "datatype": "INT32", "shape": [1, 16], "data": [1] * 16} for n in (0, 1)]
    body = json.dumps({"inputs": tensors, "parameters": {"naiad_explain": value}})
    answer = json.loads(await post(http_address(running), "/v2/models/alone/infer", body))
    assert set(answer["parameters"]) == KEYS
    assert answer["parameters"]["naiad_batch_reason"] == "lone"
    assert answer["outputs"][0]["data"] == [2] * 16


async def test_runs_are_counted_by_reason_for_metrics_and_for_the_statistics_call(
    running: NaiadServer, client: triton.InferenceServerClient
) -> None:
    for _ in range(3):
        await asked(client, "alone", add_sub_inputs())
    await asked(client, "waits", add_sub_inputs(8))
    metrics = await get(metrics_address(running), "/metrics")
    assert 'naiad_batches_total{model="alone",reason="lone",version="3"} 3.0' in metrics
    assert 'naiad_batches_total{model="waits",reason="preferred",version="1"} 1.0' in metrics
    assert 'naiad_batches_total{model="waits",reason="delay",version="1"} 0.0' in metrics
    stub = client._client_stub
    call = stub.ModelStatistics(pb.ModelStatisticsRequest(name="alone"))
    await call
    assert ("naiad-batch-reasons", "3 lone=3") in [tuple(entry) for entry in await call.trailing_metadata()]


async def test_a_command_asks_a_running_server(
    running: NaiadServer, client: triton.InferenceServerClient
) -> None:
    for rows in (8, 8, 1):
        await asked(client, "waits", add_sub_inputs(rows))
    result = await command("waits", f"--url={address(running)}", "--json")
    (version,) = json.loads(result)["versions"]
    assert {each["reason"]: (each["runs"], round(each["share"], 2)) for each in version["reasons"]} == {
        "preferred": (2, 0.67),
        "delay": (1, 0.33),
    }
    assert {each["batch_size"]: each["runs"] for each in version["sizes"]} == {1: 1, 8: 2}
    assert (version["requests"], version["runs"], version["batch_items"]) == (3, 3, 17)
    text = " ".join((await command("waits", f"--url={address(running)}")).split())
    assert "preferred: 2 runs (67%), a preferred batch size was reached" in text
    assert "up to 2000 µs from the oldest request's coming" in text


async def test_rows_without_a_request_are_padding(tmp_path: Path) -> None:
    """The direct strategy: the second sequence has the second row, and the first one nothing to run."""
    write_examples(tmp_path)
    async with (
        server(tmp_path, model_control_mode="explicit", load_model=("simple_sequence",)) as started,
        triton.InferenceServerClient(address(started)) as connected,
    ):
        value = [infer_input("INPUT", np.ones((1, 1), np.int32))]
        answers = [
            await asked(connected, "simple_sequence", value, sequence_id=number, sequence_start=True)
            for number in (1, 2, 3)
        ]
    sizes = [(each["naiad_batch_size"], each["naiad_padding_rows"]) for each in answers]
    assert all(size == padding + 1 for size, padding in sizes)
    assert max(sizes)[1] > 0
    assert [each["naiad_batch_requests"] for each in answers] == [1, 1, 1]


async def test_passive_instances_are_loaded_and_never_run(tmp_path: Path) -> None:
    groups = 'instance_group [ { kind: KIND_CPU count: 1 name: "on" }, { kind: KIND_CPU name: "off" passive: true } ]'
    add_model(tmp_path, "m", add_sub(), ADD_SUB_CONFIG + groups)
    async with server(tmp_path) as started, triton.InferenceServerClient(address(started)) as connected:
        answers = await asyncio.gather(*(asked(connected, "m", add_sub_inputs()) for _ in range(20)))
        shown = (await connected.get_model_config("m")).config.instance_group
        metrics = await get(metrics_address(started), "/metrics")
    assert {each["naiad_instance"] for each in answers} == {"on_0"}
    assert [(group.name, group.passive) for group in shown] == [("on", False), ("off", True)]
    assert 'naiad_instances{model="m",version="1"} 1.0' in metrics


class Planned(NamedTuple):
    """What `naiad explain` says of one version before it is loaded."""

    version: int
    instances: dict[str, str]
    reasons: set[str]
    max_batch_size: int


async def compare(repository: Path) -> int:
    """Send requests to every model that serves and hold them to the plan; how many models there were."""
    async with (
        server(repository, exit_on_error=False, strict_readiness=False) as started,
        triton.InferenceServerClient(address(started)) as connected,
    ):
        index = (await connected.get_model_repository_index()).models
        ready = {(entry.name, int(entry.version)) for entry in index if entry.state == "READY"}
        plans = {name: await planned(name, repository) for name in {entry.name for entry in index}}
        assert {(name, each.version) for name, versions in plans.items() for each in versions} == ready
        for name, versions in plans.items():
            for plan in versions:
                await compare_version(connected, name, plan)
    return len({name for name, _ in ready})


async def compare_version(client: triton.InferenceServerClient, name: str, plan: Planned) -> None:
    version = str(plan.version)
    inputs = [
        zeros(tensor) for tensor in (await client.get_model_metadata(name, model_version=version)).inputs
    ]
    outcomes = await asyncio.gather(
        *(asked(client, name, inputs, model_version=version) for _ in range(3)), return_exceptions=True
    )
    answers = [each for each in outcomes if not isinstance(each, BaseException)]
    refused = [str(each) for each in outcomes if isinstance(each, BaseException)]
    assert answers, refused
    assert all("Request timeout expired" in each or "Exceeds maximum queue" in each for each in refused)
    for each in answers:
        assert each["naiad_model_version"] == plan.version
        assert plan.instances[each["naiad_instance"]] == each["naiad_provider"]
        assert each["naiad_batch_reason"] in plan.reasons, name
        assert 1 <= each["naiad_batch_size"] <= plan.max_batch_size


async def planned(name: str, repository: Path) -> list[Planned]:
    """The versions of a model that `naiad explain` takes for sound."""
    report = json.loads(await command(name, f"--model-repository={repository}", "--json"))
    plans = [(each["version"], each["plan"]) for each in report["versions"] if each["plan"]]
    return [
        Planned(
            version=version,
            instances={each["name"]: each["execution_provider"] for each in plan["instances"]["active"]},
            reasons={each["name"] for each in plan["scheduling"]["reasons"]},
            max_batch_size=plan["scheduling"]["max_batch_size"],
        )
        for version, plan in plans
    ]


def zeros(tensor: Any) -> Any:
    dtype = triton_to_np_dtype(tensor.datatype)
    array = np.zeros([1 if size == -1 else size for size in tensor.shape], dtype)
    if tensor.datatype == "BYTES":
        array = np.full(array.shape, b"1", np.object_)
    return infer_input(tensor.name, array, tensor.datatype)


async def command(*arguments: str) -> str:
    """What the command prints; the server of this loop goes on answering meanwhile."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["explain", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.stdout


async def test_the_plan_of_each_kind_of_model_is_what_its_requests_report(tmp_path: Path) -> None:
    add_model(tmp_path, "waits", add_sub(), f"{ADD_SUB_CONFIG} {DELAY}")
    add_model(tmp_path, "merges", add_sub(), ADD_SUB_CONFIG + "dynamic_batching {}")
    add_model(tmp_path, "from_graph", identity(TensorProto.FLOAT, ["N", 4]))
    add_model(tmp_path, "fixed", identity(TensorProto.FLOAT, [3, 4]))
    add_model(tmp_path, "broken", b"not a model", ADD_SUB_CONFIG)
    assert await compare(tmp_path) == 4


@pytest.mark.slow
@pytest.mark.skipif(not (CONTRACT / "golden_repository").is_dir(), reason="no recording of a Triton")
async def test_the_plan_of_each_recorded_model_is_what_its_requests_report(tmp_path: Path) -> None:
    make_repository(CONTRACT / "golden_repository", tmp_path / "golden")
    assert await compare(tmp_path / "golden") >= 10


@pytest.mark.slow
async def test_the_plan_of_each_model_of_the_demo_is_what_its_requests_report(tmp_path: Path) -> None:
    await asyncio.to_thread(build_repository, tmp_path)
    assert await compare(tmp_path) == 3


async def post(where: str, path: str, body: str) -> str:
    head = f"POST {path} HTTP/1.1\r\nHost: naiad\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return await _exchange(where, head + body)


async def get(where: str, path: str) -> str:
    return await _exchange(where, f"GET {path} HTTP/1.1\r\nHost: naiad\r\nConnection: close\r\n\r\n")


async def _exchange(where: str, message: str) -> str:
    host, port = where.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(message.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n\r\n")[2].decode()
