"""`model_warmup` on a whole server: what runs before a version is ready, and what keeps it from being so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper
from support.onnx_models import identity, info, model
from support.repositories import add_model
from support.servers import address, server
from support.triton import infer_input
from tritonclient.utils import InferenceServerException

from naiad.runtime.onnx_session import OnnxSession

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from naiad.app import NaiadServer
    from naiad.core.tensors import Array, Tensors

CONFIG = """
max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 2 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ] }
"""


def sample(data: str, *, batch_size: int = 1, count: int = 1) -> str:
    value = f"data_type: TYPE_FP32 dims: [ 2 ] {data}"
    inputs = f'inputs {{ key: "INPUT0" value {{ {value} }} }}'
    return f'model_warmup {{ name: "s" batch_size: {batch_size} count: {count} {inputs} }}'


class Runs:
    """What real sessions ran, by batch: the values of their first row."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, list[float]]] = []

    def of(self, batch_size: int) -> list[list[float]]:
        return [row for size, row in self.rows if size == batch_size]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    seen = Runs()
    run = OnnxSession.run

    def recorded(self: OnnxSession, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        array = inputs["INPUT0"]
        seen.rows.append((len(array), array[0].tolist()))
        return run(self, inputs, outputs)

    monkeypatch.setattr(OnnxSession, "run", recorded)
    return seen


async def test_samples_run_on_every_instance_and_zeros_only_of_what_is_left(
    tmp_path: Path, runs: Runs
) -> None:
    folder = add_model(
        tmp_path,
        "m",
        identity(TensorProto.FLOAT, ["N", 2]),
        CONFIG + sample('input_data_file: "ones"', batch_size=4, count=3) + sample("random_data: true"),
    )
    (folder / "warmup").mkdir()
    (folder / "warmup" / "ones").write_bytes(np.ones(2, np.float32).tobytes())
    async with server(tmp_path) as running, client_of(running) as client:
        counted = (await client.get_inference_statistics("m")).model_stats[0]
    assert runs.of(4) == [[1, 1]] * 6, "three runs on each of two instances"
    assert len(runs.of(1)) == 2
    assert [0, 0] not in runs.of(1), "the sample's batch of one is not run again as zeros"
    assert runs.of(2) == [[0, 0]], "the preferred size that no sample has"
    assert (counted.inference_count, counted.execution_count, len(counted.batch_stats)) == (0, 0, 0)
    assert counted.inference_stats.success.count == counted.inference_stats.fail.count == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('input_data_file: "short"', "warmup setting expects 8 bytes, but the data provided from short only has 4"),
        ('input_data_file: "../config.pbtxt"', "must stay inside the model's folder 'warmup'"),
        ("dims: [ -1 ] zero_data: true", "expects all variable-size dimensions are specified for input 'INPUT0'"),
        ("", "warmup setting expects input 'INPUT0' to have input_data_type set"),
    ],
)  # fmt: skip
async def test_a_bad_sample_fails_the_load_and_says_why(tmp_path: Path, data: str, reason: str) -> None:
    folder = add_model(tmp_path, "m", identity(TensorProto.FLOAT, ["N", 2]), CONFIG + sample(data))
    (folder / "warmup").mkdir()
    (folder / "warmup" / "short").write_bytes(bytes(4))
    async with server(tmp_path, exit_on_error=False) as running, client_of(running) as client:
        (entry,) = (await client.get_model_repository_index()).models
    assert entry.state == "UNAVAILABLE"
    assert reason in entry.reason


async def test_a_run_that_fails_keeps_the_version_from_being_ready(tmp_path: Path) -> None:
    """The graph looks its input up in a table of two rows: the file asks for the third."""
    graph = model(
        [helper.make_node("Gather", ["table", "INPUT0"], ["OUTPUT0"])],
        [info("INPUT0", TensorProto.INT64, ["N", 1])],
        [info("OUTPUT0", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor("table", TensorProto.FLOAT, [2], [0.0, 1.0])],
    )
    text = """
    max_batch_size: 4
    input [ { name: "INPUT0" data_type: TYPE_INT64 dims: [ 1 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] } ]
    model_warmup { name: "third" batch_size: 1 inputs {
      key: "INPUT0" value { data_type: TYPE_INT64 dims: [ 1 ] input_data_file: "row" } } }
    """
    folder = add_model(tmp_path, "m", graph, text)
    (folder / "warmup").mkdir()
    row = folder / "warmup" / "row"
    row.write_bytes(np.array([2], np.int64).tobytes())
    async with server(tmp_path, model_control_mode="explicit") as running, client_of(running) as client:
        with pytest.raises(InferenceServerException, match=r"failed to run warmup sample 'third': .*bounds"):
            await client.load_model("m")
        row.write_bytes(np.array([1], np.int64).tobytes())
        await client.load_model("m")
        assert await client.is_model_ready("m")


async def test_texts_reach_the_graph_as_a_request_would_bring_them(tmp_path: Path) -> None:
    """The graph turns text into numbers: what is none fails the load, and zeros would too, being empty."""
    graph = model(
        [helper.make_node("Cast", ["INPUT0"], ["OUTPUT0"], to=TensorProto.FLOAT)],
        [info("INPUT0", TensorProto.STRING, ["N", 2])],
        [info("OUTPUT0", TensorProto.FLOAT, ["N", 2])],
    )
    text = """
    max_batch_size: 2
    input [ { name: "INPUT0" data_type: TYPE_STRING dims: [ 2 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 2 ] } ]
    model_warmup { name: "texts" batch_size: 2 inputs {
      key: "INPUT0" value { data_type: TYPE_STRING dims: [ 2 ] input_data_file: "numbers" } } }
    """
    for name, second in (("numbers", b"1.5"), ("words", b"one")):
        folder = add_model(tmp_path, name, graph, text)
        (folder / "warmup").mkdir()
        (folder / "warmup" / "numbers").write_bytes(b"\x01\0\0\x007\x03\0\0\0" + second)
    async with server(tmp_path, exit_on_error=False) as running, client_of(running) as client:
        index = (await client.get_model_repository_index()).models
        values = np.array([[b"2", b"3"]], np.object_)
        answer = await client.infer("numbers", [infer_input("INPUT0", values, "BYTES")])
    assert {entry.name: entry.state for entry in index} == {"numbers": "READY", "words": "UNAVAILABLE"}
    assert "failed to run warmup sample 'texts'" in index[1].reason
    assert answer.as_numpy("OUTPUT0").tolist() == [[2, 3]]


def client_of(running: NaiadServer) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(address(running))
