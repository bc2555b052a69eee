"""Ensembles over the wire, with Triton's stock client: the flow, the errors, many callers, load and unload."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper
from support.ensembles import ensemble_text
from support.gates import RunGate
from support.onnx_models import SLOW_SIZE, info, model, slow
from support.repositories import add_model
from support.servers import address, metrics_address, server
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import onnx

    from naiad.app import NaiadServer

SIZE = 4
STEPS = (
    ("double", {"X": "image"}, {"Y": "doubled"}),
    ("left", {"X": "doubled"}, {"Y": "one"}),
    ("right", {"X": "doubled"}, {"Y": "two"}),
    ("join", {"A": "one", "B": "two"}, {"SUM": "scores", "DIFFERENCE": "difference"}),
)
PIPELINE = ensemble_text(*STEPS, reads=["image"], writes=["scores", "difference"])
BATCHING = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 500 }"


def times(factor: float, batch: str | None = "N", size: int | str = SIZE) -> onnx.ModelProto:
    """Y = factor * X."""
    dims: list[int | str | None] = [batch, size] if batch else [size]
    return model(
        [helper.make_node("Mul", ["X", "factor"], ["Y"])],
        [info("X", TensorProto.FLOAT, dims)],
        [info("Y", TensorProto.FLOAT, dims)],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )


def join() -> onnx.ModelProto:
    """SUM = A + B, DIFFERENCE = A - B."""
    dims: list[int | str | None] = ["N", SIZE]
    return model(
        [
            helper.make_node("Add", ["A", "B"], ["SUM"]),
            helper.make_node("Sub", ["A", "B"], ["DIFFERENCE"]),
        ],
        [info("A", TensorProto.FLOAT, dims), info("B", TensorProto.FLOAT, dims)],
        [info("SUM", TensorProto.FLOAT, dims), info("DIFFERENCE", TensorProto.FLOAT, dims)],
    )


def add_ensemble(root: Path, name: str, config: str) -> None:
    """An ensemble's folder: a config and an empty version."""
    (root / name / "1").mkdir(parents=True)
    (root / name / "config.pbtxt").write_text(config)


def add_pipeline(root: Path, *, labels: str = "", scheduling: str = "") -> None:
    """`double`, then `left` and `right` at once, then `join`; the ensemble is the first in the alphabet."""
    for name, factor in (("double", 2.0), ("left", 3.0), ("right", 5.0)):
        add_model(root, name, times(factor), BATCHING)
    tensor = "data_type: TYPE_FP32 dims: [ 4 ]"
    add_model(
        root,
        "join",
        join(),
        f"""{BATCHING} input [ {{ name: "A" {tensor} }}, {{ name: "B" {tensor} }} ]
        output [ {{ name: "SUM" {tensor} label_filename: "labels.txt" }}, {{ name: "DIFFERENCE" {tensor} }} ]""",
    )
    (root / "join" / "labels.txt").write_text(labels or "ant\nbee\ncat\ndog\n")
    add_ensemble(
        root,
        "a_pipeline",
        ensemble_text(*STEPS, reads=["image"], writes=["scores", "difference"], scheduling=scheduling),
    )


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    add_pipeline(tmp_path)
    async with server(tmp_path) as started:
        yield started


@pytest.fixture
async def client(running: NaiadServer) -> AsyncIterator[Any]:
    async with triton.InferenceServerClient(address(running)) as connected:
        yield connected


async def infer(
    client: Any,
    name: str,
    inputs: dict[str, np.ndarray[Any, Any]],
    outputs: Sequence[str] = (),
    **options: Any,
) -> dict[str, np.ndarray[Any, Any]]:
    """All outputs, or those that are named."""
    sent = []
    for each, array in inputs.items():
        sent.append(triton.InferInput(each, list(array.shape), "FP32"))
        sent[-1].set_data_from_numpy(array)
    wanted = [triton.InferRequestedOutput(each) for each in outputs] or None
    result = await client.infer(name, sent, outputs=wanted, **options)
    return {each.name: result.as_numpy(each.name) for each in result.get_response().outputs}


def metrics(running: NaiadServer) -> str:
    with urllib.request.urlopen(f"http://{metrics_address(running)}/metrics", timeout=10) as response:
        text: str = response.read().decode()
        return text


def rows(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([[value + place for place in range(SIZE)] for value in values], np.float32)


async def test_an_ensemble_gives_what_its_steps_give_when_called_by_hand(client: Any) -> None:
    image = rows(1, 10, 100)
    doubled = (await infer(client, "double", {"X": image}))["Y"]
    one, two = await asyncio.gather(
        infer(client, "left", {"X": doubled}), infer(client, "right", {"X": doubled})
    )
    by_hand = await infer(client, "join", {"A": one["Y"], "B": two["Y"]})
    answer = await infer(client, "a_pipeline", {"image": image})
    assert list(answer) == ["difference", "scores"]
    np.testing.assert_array_equal(answer["scores"], by_hand["SUM"])
    np.testing.assert_array_equal(answer["difference"], by_hand["DIFFERENCE"])
    np.testing.assert_array_equal(answer["scores"], image * 16)


async def test_metadata_and_config_are_tritons(client: Any) -> None:
    metadata = await client.get_model_metadata("a_pipeline")
    assert (metadata.platform, list(metadata.versions)) == ("ensemble", ["1"])
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [
        ("image", "FP32", [-1, SIZE])
    ]
    assert [each.name for each in metadata.outputs] == ["scores", "difference"]
    config = (await client.get_model_config("a_pipeline")).config
    assert [step.model_name for step in config.ensemble_scheduling.step] == [
        "double",
        "left",
        "right",
        "join",
    ]
    assert dict(config.ensemble_scheduling.step[3].input_map) == {"A": "one", "B": "two"}
    assert not config.instance_group
    assert not config.HasField("optimization")
    assert await client.is_server_ready()


async def test_statistics_are_those_of_one_execution_and_the_steps_count_too(client: Any) -> None:
    await infer(client, "a_pipeline", {"image": rows(1, 2)})
    found = {each.name: each for each in (await client.get_inference_statistics()).model_stats}
    whole = found["a_pipeline"]
    assert (whole.version, whole.inference_count, whole.execution_count) == ("1", 2, 1)
    assert [row.batch_size for row in whole.batch_stats] == [2]
    for phase in ("compute_input", "compute_infer", "compute_output"):
        steps = sum(getattr(found[name].inference_stats, phase).ns for name, *_ in STEPS)
        assert getattr(whole.inference_stats, phase).ns == steps
    assert whole.inference_stats.queue.ns == 0
    assert whole.inference_stats.success.ns > whole.inference_stats.compute_infer.ns
    assert [found[name].inference_count for name, *_ in STEPS] == [2, 2, 2, 2]


async def test_only_the_steps_of_the_requested_output_run(tmp_path: Path) -> None:
    add_pipeline(tmp_path)
    add_ensemble(tmp_path, "both", ensemble_text(*STEPS[:3], reads=["image"], writes=["one", "two"]))
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        answer = await infer(client, "both", {"image": rows(1)}, outputs=["two"])
        assert list(answer) == ["two"]
        found = {each.name: each for each in (await client.get_inference_statistics()).model_stats}
        assert {name: found[name].inference_count for name in ("double", "left", "right")} == {
            "double": 1,
            "left": 0,
            "right": 1,
        }


async def test_classes_have_the_labels_of_the_model_that_makes_them(client: Any) -> None:
    image = triton.InferInput("image", [1, SIZE], "FP32")
    image.set_data_from_numpy(rows(1))
    scores = triton.InferRequestedOutput("scores", class_count=2)
    answer = await client.infer("a_pipeline", [image], outputs=[scores])
    assert answer.as_numpy("scores").tolist() == [[b"64.000000:3:dog", b"48.000000:2:cat"]]


async def test_metrics_say_version_1_whatever_the_folder(tmp_path: Path) -> None:
    add_pipeline(tmp_path)
    (tmp_path / "a_pipeline" / "1").rename(tmp_path / "a_pipeline" / "3")
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        await infer(client, "a_pipeline", {"image": rows(1)})
        (statistics,) = (await client.get_inference_statistics("a_pipeline")).model_stats
        assert statistics.version == "3"
        text = await asyncio.to_thread(metrics, running)
    assert 'nv_inference_count{model="a_pipeline",version="1"} 1' in text
    assert 'nv_inference_pending_request_count{model="a_pipeline",version="1"} 0' in text
    assert 'naiad_model_ready{model="a_pipeline",version="3"} 1' in text


async def test_a_failing_step_is_told_with_the_ensembles_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index beyond the table fails the run of `slow`, which no shape check can see."""
    tensors = """input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 400, 400 ] },
    { name: "INDEX" data_type: TYPE_INT64 dims: [ 1 ] } ] output [ { name: "OUTPUT" data_type: TYPE_FP32
    dims: [ 400, 400 ] } ]"""
    add_model(tmp_path, "slow", slow(), f"max_batch_size: 2 {tensors}")
    inner = tensors.replace("INPUT", "picture").replace("INDEX", "row").replace("OUTPUT", "end")
    add_ensemble(
        tmp_path,
        "E",
        f"""platform: "ensemble" max_batch_size: 2 {inner} ensemble_scheduling {{ step {{ model_name: "slow"
        model_version: -1 input_map {{ key: "INPUT" value: "picture" }} input_map {{ key: "INDEX" value: "row" }}
        output_map {{ key: "OUTPUT" value: "end" }} }} }}""",
    )

    def inputs(row: int) -> list[Any]:
        picture = triton.InferInput("picture", [1, SLOW_SIZE, SLOW_SIZE], "FP32")
        picture.set_data_from_numpy(np.zeros((1, SLOW_SIZE, SLOW_SIZE), np.float32))
        index = triton.InferInput("row", [1, 1], "INT64")
        index.set_data_from_numpy(np.array([[row]], np.int64))
        return [picture, index]

    gate = RunGate(monkeypatch)
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        with pytest.raises(InferenceServerException, match=r"in ensemble 'E', .*") as caught:
            await client.infer("E", inputs(7))
        alone = [
            triton.InferInput("INPUT", [1, 400, 400], "FP32"),
            triton.InferInput("INDEX", [1, 1], "INT64"),
        ]
        alone[0].set_data_from_numpy(np.zeros((1, 400, 400), np.float32))
        alone[1].set_data_from_numpy(np.array([[7]], np.int64))
        with pytest.raises(InferenceServerException) as inner_error:
            await client.infer("slow", alone)
        assert caught.value.message() == f"in ensemble 'E', {inner_error.value.message()}"
        assert caught.value.status() == inner_error.value.status()
        # Its deadline passes while the step runs: the caller is told, and both models go on.
        gate.shut()
        with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
            await client.infer("E", inputs(0), client_timeout=1)
        gate.open()
        await client.infer("E", inputs(0))
        failed = {
            each.name: each.inference_stats.fail.count
            for each in (await client.get_inference_statistics()).model_stats
        }
        assert failed["E"] == 2


async def test_an_answer_of_one_model_that_the_next_does_not_take(tmp_path: Path) -> None:
    add_model(tmp_path, "free", times(2, size="size"), "max_batch_size: 8")
    add_model(tmp_path, "fixed", times(2), "max_batch_size: 8")
    add_ensemble(
        tmp_path,
        "E",
        ensemble_text(
            ("free", {"X": "x"}, {"Y": "y"}), ("fixed", {"X": "y"}, {"Y": "z"}), reads=["x"], writes=["z"]
        ).replace(
            'input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }',
            'input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }',
        ),
    )
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        assert (await infer(client, "E", {"x": rows(1)}))["z"].shape == (1, SIZE)
        with pytest.raises(InferenceServerException) as caught:
            await infer(client, "E", {"x": np.zeros((1, 3), np.float32)}, request_id="mine")
    assert caught.value.message() == (
        "in ensemble 'E', [request id: mine] unexpected shape for input 'X' for model 'fixed'. Expected [-1,4], "
        "got [1,3]. NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
        "prepended to each input shape."
    )
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_models_with_and_without_batches_in_one_ensemble(tmp_path: Path) -> None:
    add_model(tmp_path, "batched", times(2), "max_batch_size: 8")
    add_model(
        tmp_path,
        "lone",
        times(3, batch=None),
        'input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }',
    )
    steps = (("batched", {"X": "x"}, {"Y": "y"}), ("lone", {"X": "y"}, {"Y": "z"}))
    add_ensemble(tmp_path, "E", ensemble_text(*steps, reads=["x"], writes=["z"]))
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        answer = await infer(client, "E", {"x": rows(1)})
        np.testing.assert_array_equal(answer["z"], rows(1) * 6)
        with pytest.raises(InferenceServerException, match=r"for model 'lone'. Expected \[4\], got \[2,4\]"):
            await infer(client, "E", {"x": rows(1, 2)})


@pytest.mark.parametrize("limit", [0, 1])
async def test_32_callers_all_get_their_own_answer(tmp_path: Path, limit: int) -> None:
    """With one request in a step at once they wait for each other, and never for ever."""
    add_pipeline(tmp_path, scheduling=f"max_inflight_requests: {limit}")
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:

        async def call(value: int) -> None:
            for repeat in range(4):
                image = rows(value + 100 * repeat)
                answer = await infer(client, "a_pipeline", {"image": image})
                np.testing.assert_array_equal(answer["scores"], image * 16)

        async with asyncio.timeout(40):
            await asyncio.gather(*(call(value) for value in range(32)))
        found = {each.name: each for each in (await client.get_inference_statistics()).model_stats}
        assert found["a_pipeline"].execution_count == 128
        largest = max(row.batch_size for row in found["left"].batch_stats)
        assert largest == 1 if limit else largest > 1  # the steps' own batching goes on


async def test_loading_and_unloading_by_request(tmp_path: Path) -> None:
    add_pipeline(tmp_path)
    async with (
        server(tmp_path, model_control_mode="explicit") as running,
        triton.InferenceServerClient(address(running)) as client,
    ):
        await client.load_model("a_pipeline")
        ready = [
            each.name for each in (await client.get_model_repository_index()).models if each.state == "READY"
        ]
        assert ready == ["a_pipeline", "double", "join", "left", "right"]
        np.testing.assert_array_equal(
            (await infer(client, "a_pipeline", {"image": rows(1)}))["scores"], rows(1) * 16
        )
        await client.unload_model("left")
        assert not await client.is_model_ready("a_pipeline")
        with pytest.raises(InferenceServerException, match="'a_pipeline' has no available versions"):
            await infer(client, "a_pipeline", {"image": rows(1)})
        assert await client.is_server_ready()
        await client.load_model("left")
        assert await client.is_model_ready("a_pipeline")
        await client.unload_model("a_pipeline", unload_dependents=True)
        assert [name for name, *_ in STEPS if await client.is_model_ready(name)] == ["left"]  # loaded by name


async def test_what_is_missing_is_told_to_who_loads_and_in_the_index(tmp_path: Path) -> None:
    add_pipeline(tmp_path)
    for folder in ("left", "right"):
        (tmp_path / folder).rename(tmp_path / f"{folder}_gone")
    async with (
        server(tmp_path, model_control_mode="explicit") as running,
        triton.InferenceServerClient(address(running)) as client,
    ):
        text = "ensemble a_pipeline contains models that are not available or ambiguous: left, right"
        with pytest.raises(InferenceServerException) as caught:
            await client.load_model("a_pipeline")
        assert caught.value.message() == f"load failed for model 'a_pipeline': {text}\n"
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        index = {each.name: each for each in (await client.get_model_repository_index()).models}
        assert (index["a_pipeline"].state, index["a_pipeline"].reason) == (
            "UNAVAILABLE",
            f"Invalid argument: {text}",
        )


async def test_an_ensemble_of_an_ensemble(tmp_path: Path) -> None:
    add_pipeline(tmp_path)
    steps = (
        ("a_pipeline", {"image": "x"}, {"scores": "y"}),
        ("double", {"X": "y"}, {"Y": "z"}),
    )
    add_ensemble(tmp_path, "a_nest", ensemble_text(*steps, reads=["x"], writes=["z"]))
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        np.testing.assert_array_equal(
            (await infer(client, "a_nest", {"x": rows(1, 2)}))["z"], rows(1, 2) * 32
        )
