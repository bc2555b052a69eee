"""`naiad serve` as a process: signals, exit codes, flags, environment."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from grpc_reflection.v1alpha import reflection_pb2_grpc
from support.onnx_models import add_sub, looping
from support.processes import ServerProcess, naiad_environment
from support.repositories import ADD_SUB_CONFIG, add_model
from support.stock_clients import Endpoints
from support.triton import infer_inputs
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

A_SECOND = 600_000
"""So many turns of the model `long` take about a second, and longer where the machine is busy."""

FOR_EVER = 2**62

LONG_CONFIG = """
max_batch_size: 1
input [
  { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "COUNT" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
NO_LIMIT = "--exit-timeout-secs=1000"
SOON_S = 40
"""How long a server that waits for nobody may take to end on a busy machine."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG + "dynamic_batching { }")
    add_model(tmp_path, "long", looping(), LONG_CONFIG)
    return tmp_path


def operands(value: int) -> list[object]:
    return infer_inputs(
        INPUT0=np.arange(16, dtype=np.int32).reshape(1, 16), INPUT1=np.full((1, 16), value, np.int32)
    )


async def test_sigterm_under_load_answers_everything_accepted_and_exits_0(repository: Path) -> None:
    """16 clients send without pause; each call is answered right or refused as UNAVAILABLE, none breaks."""
    with ServerProcess(repository) as server:
        answered, refused, other = 0, 0, []
        async with triton.InferenceServerClient(server.address()) as client:

            async def load(number: int) -> None:
                nonlocal answered, refused
                for turn in range(10_000):
                    value = number * 100_000 + turn
                    try:
                        result = await client.infer("simple", operands(value))
                    except InferenceServerException as error:
                        if error.status() != "StatusCode.UNAVAILABLE":
                            other.append(error)
                        refused += 1
                        return
                    assert result.as_numpy("OUTPUT0")[0, 0] == value
                    answered += 1
                    if answered == 300:
                        server.signal(signal.SIGTERM)

            await asyncio.gather(*(load(number) for number in range(16)))
        assert await asyncio.to_thread(server.wait) == 0
    assert answered >= 300
    assert refused == 16
    assert [str(error) for error in other] == []
    assert server.log[-1]["event"] == "stopped"


def turns(count: int) -> list[object]:
    return infer_inputs(INPUT0=np.zeros((1, 1), np.float32), COUNT=np.array([[count]]))


async def test_a_request_at_work_when_the_signal_comes_is_answered(repository: Path) -> None:
    """And one that waits behind it."""
    with ServerProcess(repository, NO_LIMIT) as server:
        endpoints = await asyncio.to_thread(Endpoints.of, server)
        async with triton.InferenceServerClient(endpoints.grpc) as client:
            calls = [asyncio.ensure_future(client.infer("long", turns(A_SECOND))) for _ in range(2)]
            await asyncio.to_thread(endpoints.wait_for_work, "long", 2)
            server.signal(signal.SIGTERM)
            for result in await asyncio.gather(*calls):
                assert result.as_numpy("OUTPUT0") == A_SECOND
        assert await asyncio.to_thread(server.wait) == 0


async def test_probes_are_told_that_the_server_exits_until_the_last_call_is_answered(
    repository: Path,
) -> None:
    """Over HTTP too, where nothing was at work: its port stays open as long as gRPC's."""
    with ServerProcess(repository, NO_LIMIT) as server:
        endpoints = await asyncio.to_thread(Endpoints.of, server)
        async with triton.InferenceServerClient(endpoints.grpc) as client:
            calls = [asyncio.ensure_future(client.infer("long", turns(A_SECOND))) for _ in range(2)]
            await asyncio.to_thread(endpoints.wait_for_work, "long", 2)
            server.signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait_for, "draining")
            statuses = []
            while True:
                is_last = calls[0].done()  # the other one takes a second more
                statuses.append(await asyncio.to_thread(http_status, endpoints.http, "/v2/health/ready"))
                if is_last:
                    break
            assert set(statuses) == {503}
            await asyncio.gather(*calls)
        assert await asyncio.to_thread(server.wait) == 0


async def test_open_streams_are_answered_and_do_not_hold_up_the_exit(repository: Path) -> None:
    with ServerProcess(repository, NO_LIMIT) as server:
        async with triton.InferenceServerClient(server.address()) as client:

            async def requests() -> object:
                yield {"model_name": "simple", "inputs": operands(5)}
                await asyncio.Event().wait()

            answers = client.stream_infer(requests())
            result, error = await anext(answers.__aiter__())
            assert error is None
            assert result.as_numpy("OUTPUT0")[0, 0] == 5
            server.signal(signal.SIGTERM)
            code = await asyncio.wait_for(asyncio.to_thread(server.wait), SOON_S)
            answers.cancel()
    assert code == 0


def test_a_second_signal_ends_at_once(repository: Path) -> None:
    """What is at work would never end, and nobody waits for it."""
    with ServerProcess(repository, NO_LIMIT) as server:
        endpoints = Endpoints.of(server)
        with grpc.insecure_channel(endpoints.grpc) as channel:
            calls = occupy(channel, endpoints)
            server.signal(signal.SIGTERM)
            server.wait_for("draining")
            # One that comes too soon is taken for the first.
            while not server.ends_within(0.2):
                server.signal(signal.SIGTERM)
            assert server.wait() == 128 + signal.SIGTERM
            for call in calls:
                call.cancel()


async def test_callers_that_never_give_up_do_not_hold_up_the_exit(repository: Path) -> None:
    """Some retry each refusal at once, one polls the metadata, one holds a reflection stream open."""
    with ServerProcess(repository, NO_LIMIT) as server:
        address = server.address()
        refused, wrong = 0, []
        async with (
            triton.InferenceServerClient(address) as client,
            grpc.aio.insecure_channel(address) as channel,
        ):

            async def retry() -> None:
                nonlocal refused
                while server.process.poll() is None:
                    try:
                        await client.infer("simple", operands(1))
                    except InferenceServerException as error:
                        refused += 1
                        if "shutting down" not in str(error) and "UNAVAILABLE" not in str(error.status()):
                            wrong.append(str(error))

            async def poll() -> None:
                while server.process.poll() is None:
                    with contextlib.suppress(InferenceServerException):
                        await client.get_server_metadata()
                    await asyncio.sleep(0.02)

            reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            callers = [asyncio.ensure_future(retry()) for _ in range(4)] + [asyncio.ensure_future(poll())]
            await client.infer("simple", operands(1))
            server.signal(signal.SIGTERM)
            code = await asyncio.wait_for(asyncio.to_thread(server.wait), SOON_S)
            await asyncio.gather(*callers)
            reflection.cancel()
        assert code == 0
        assert refused > 0
        # gRPC cancels the few calls that it had read when the port closed at last.
        assert len([text for text in wrong if "CANCELLED" not in text]) == 0


def http_status(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def occupy(channel: grpc.Channel, endpoints: Endpoints) -> list[Any]:
    """One call that never ends and two behind it; returns when all are there."""
    request = service_pb2.ModelInferRequest(model_name="long")
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
    request.inputs.add(name="COUNT", datatype="INT64", shape=[1, 1])
    request.raw_input_contents.extend([bytes(4), FOR_EVER.to_bytes(8, "little")])
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    calls = [stub.ModelInfer.future(request) for _ in range(3)]
    endpoints.wait_for_work("long", 3)
    return calls


def test_work_that_outlasts_the_exit_timeout_is_given_up_with_exit_code_1(repository: Path) -> None:
    with ServerProcess(repository, "--exit-timeout-secs=0.05") as server:
        endpoints = Endpoints.of(server)
        with grpc.insecure_channel(endpoints.grpc) as channel:
            calls = occupy(channel, endpoints)
            server.signal(signal.SIGTERM)
            code = server.wait()
            for call in calls:
                call.cancel()
        assert code == 1
        (line,) = [line for line in server.log if line["event"].startswith("Exit timeout expired")]
        assert line["unanswered"]["long/1"] == len(calls)


def test_a_server_whose_log_nobody_reads_any_more_still_drains(repository: Path) -> None:
    """Its standard error is a pipe, and the reader has gone: the signal must not be lost with the line."""
    with ServerProcess(repository) as server:
        server.address()
        server.stop_reading()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


FREE_PORTS = {"NAIAD_GRPC_PORT": "0", "NAIAD_HTTP_PORT": "0", "NAIAD_METRICS_PORT": "0"}
"""Another server of this machine may have the ports that are the default."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "naiad", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=naiad_environment(**FREE_PORTS),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--model-repository is required (or NAIAD_MODEL_REPOSITORY)"),
        (("--model-repository=/no/such/folder",), "/no/such/folder"),
        (("--model-repository=.", "--grpc-port=99999"), "--grpc-port=99999"),
        (("--model-repository=.", "--exit-on-error=perhaps"), "--exit-on-error=perhaps"),
        (("--model-repository=.", "--no-such-flag=1"), "--no-such-flag"),
    ],
)
def test_a_wrong_command_line_names_the_flag_and_exits(arguments: tuple[str, ...], words: str) -> None:
    result = run("serve", *arguments)
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_that_fails_to_load_ends_the_server_unless_told_otherwise(repository: Path) -> None:
    add_model(repository, "broken", b"no model")
    result = run("serve", f"--model-repository={repository}", "--grpc-port=0", "--grpc-address=127.0.0.1")
    assert result.returncode == 1
    assert "--exit-on-error=false" in result.stderr
    assert "broken" in result.stderr
    with ServerProcess(repository, "--exit-on-error=false") as server:
        server.address()
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_settings_come_from_the_environment_too_and_flags_win(repository: Path) -> None:
    with ServerProcess(
        repository, "--cpu-threads=1", NAIAD_CPU_THREADS="7", NAIAD_MAX_QUEUE_SIZE="5"
    ) as server:
        assert server.wait_for("cpu budget")["threads"] == 1
        server.address()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_taken_port_is_told_before_any_model_is_loaded(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(
            "serve", f"--model-repository={repository}", f"--grpc-port={port}", "--grpc-address=127.0.0.1"
        )
    assert result.returncode == 1
    assert "Address already in use" in result.stderr
    assert "--grpc-port" in result.stderr
    assert "model version ready" not in result.stderr
