"""Models are loaded, overridden, rolled back and unloaded with real graphs, in Triton's words."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import pytest_asyncio
from onnx import TensorProto
from structlog.testing import capture_logs
from support.model_control import touch
from support.onnx_models import add_sub, identity
from support.repositories import ADD_SUB_CONFIG, add_model

from naiad.core.clock import MonotonicClock
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.core.tensors import InferRequest
from naiad.lifecycle.control import ControlMode, LoadOverride, titled
from naiad.lifecycle.loading import RepositoryLoader
from naiad.lifecycle.manager import ModelManager
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ADD_SUB = add_sub().SerializeToString()


def real_manager(
    *roots: Path, mode: ControlMode = ControlMode.EXPLICIT, config_name: str = ""
) -> ModelManager:
    """A manager that loads into ONNX Runtime, on one thread of the CPU."""
    detected = OrtEnvironment.detect()
    environment = OrtEnvironment(detected.version, ("CPUExecutionProvider",), 0, ())
    loader = RepositoryLoader(
        environment,
        CpuBudget(1, "a test's"),
        auto_complete=True,
        default_max_batch_size=4,
        config_name=config_name,
    )
    return ModelManager(
        loader,
        clock=MonotonicClock(),
        max_queue_size=10,
        load_threads=2,
        mode=mode,
        roots=roots,
        poll_secs=3_600,
    )


@pytest_asyncio.fixture
async def models(tmp_path: Path) -> AsyncIterator[ModelManager]:
    """The model `simple` of the repository `tmp_path/models` serves."""
    add_model(tmp_path / "models", "simple", add_sub(), ADD_SUB_CONFIG)
    manager = real_manager(tmp_path / "models")
    await manager.start(["simple"])
    yield manager
    await manager.close()


async def add(models: ModelManager, name: str = "simple") -> int:
    """What the model makes of 3 + 4."""
    inputs: dict[str, Any] = {
        "INPUT0": np.full((1, 16), 3, np.int32),
        "INPUT1": np.full((1, 16), 4, np.int32),
    }
    with models.acquire(name, None) as handle:
        response = await handle.submit(InferRequest(name, None, inputs))
    return int(response.outputs["OUTPUT0"][0, 0])


async def reason(models: ModelManager, name: str) -> str:
    """The reason in the model's only line of the index."""
    [entry] = [entry for entry in await models.index() if entry.name == name]
    return titled(entry.reason)


POLL_FAILURE = "failed to load '{name}', failed to poll from model repository"
LOAD_FAILURE = "load failed for model '{name}': version 1 is at UNAVAILABLE state: {reason};\n"


def _config(
    text: str = "", *, dtype: str = "INT32", dims: int = 16, names: str = "INPUT0 INPUT1 OUTPUT0 OUTPUT1"
) -> str:
    tensors = [
        f'{"input" if index < 2 else "output"} {{ name: "{name}" data_type: TYPE_{dtype if index == 0 else "INT32"} dims: {dims} }}'
        for index, name in enumerate(names.split())
    ]
    return "\n".join([text or 'platform: "onnxruntime_onnx" max_batch_size: 8', *tensors])


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        (
            "bad_backend",
            _config('backend: "nosuch" max_batch_size: 8'),
            "Invalid argument: unable to find backend library for backend 'nosuch', try specifying runtime on the model configuration.",
        ),
        (
            "bad_dims",
            _config(dims=8),
            "Invalid argument: model 'bad_dims', tensor 'INPUT0': the model expects 2 dimensions (shape [-1,16]) but the model configuration specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete shape [-1,8])",
        ),
        (
            "bad_dtype",
            _config(dtype="FP32"),
            "Invalid argument: unable to load model 'bad_dtype', configuration expects datatype TYPE_FP32 for input 'INPUT0', model provides TYPE_INT32",
        ),
        (
            "bad_gpu",
            _config() + "instance_group [ { count: 1 kind: KIND_GPU } ]",
            "Invalid argument: instance group bad_gpu_0 of model bad_gpu has kind KIND_GPU but no GPUs are available",
        ),
        (
            "bad_inname",
            _config(names="IN0 INPUT1 OUTPUT0 OUTPUT1"),
            "Invalid argument: unexpected inference input 'IN0', allowed inputs are: INPUT0, INPUT1",
        ),
        (
            "bad_missinginput",
            'platform: "onnxruntime_onnx" max_batch_size: 8 '
            'input { name: "INPUT0" data_type: TYPE_INT32 dims: 16 } output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 16 }',
            "Invalid argument: unable to load model 'bad_missinginput', configuration expects 1 inputs, model provides 2",
        ),
        (
            "bad_outname",
            _config(names="INPUT0 INPUT1 OUTPUT0 OUT1"),
            "Invalid argument: unexpected inference output 'OUT1', allowed outputs are: OUTPUT0, OUTPUT1",
        ),
    ],
)
async def test_a_model_that_does_not_load_is_told_word_for_word(
    models: ModelManager, tmp_path: Path, name: str, config: str, why: str
) -> None:
    """The texts of a recorded Triton, in the answer and in the index."""
    add_model(tmp_path / "models", name, add_sub(), config)
    with pytest.raises(InvalidArgumentError) as raised:
        await models.load(name)
    assert str(raised.value) == LOAD_FAILURE.format(name=name, reason=why)
    assert await reason(models, name) == why
    assert await add(models) == 7


async def test_a_static_batch_and_a_missing_file_are_told_word_for_word(
    models: ModelManager, tmp_path: Path
) -> None:
    tensors = "".join(
        f'{kind} {{ name: "{name}" data_type: TYPE_FP32 dims: 4 }}'
        for kind, name in (("input", "INPUT0"), ("output", "OUTPUT0"))
    )
    config = f'platform: "onnxruntime_onnx" max_batch_size: 8 {tensors}'
    add_model(tmp_path / "models", "bad_staticbatch", identity(TensorProto.FLOAT, [1, 4]), config)
    file = add_model(tmp_path / "models", "bad_nofile", b"", config) / "1" / "model.onnx"
    file.unlink()
    for name, why in {
        "bad_staticbatch": "Invalid argument: model 'bad_staticbatch', tensor 'INPUT0': for the model to support batching the shape should have at least 1 dimension and the first dimension must be -1; but shape expected by the model is [1,4]",
        "bad_nofile": f"Unavailable: unable to find '{file}' for model instance 'bad_nofile_0'",
    }.items():
        with pytest.raises(InvalidArgumentError) as raised:
            await models.load(name)
        assert str(raised.value) == LOAD_FAILURE.format(name=name, reason=why)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("bad_field", _config() + "no_such_field: 1"),
        ("bad_name", _config() + 'name: "another_name"'),
        ("bad_negbatch", _config("max_batch_size: -1")),
        ("bad_pbtxt", _config("max_batch_size: eight")),
        ("bad_platform", _config('platform: "onnxruntime_onyx" max_batch_size: 8')),
        ("bad_preferred", _config() + "dynamic_batching { preferred_batch_size: [ 16 ] }"),
    ],
)
async def test_a_config_that_cannot_be_read_is_for_the_log(
    models: ModelManager, tmp_path: Path, name: str, config: str
) -> None:
    """The caller hears one sentence without paths, the index shows the bare name, as in a recorded Triton."""
    add_model(tmp_path / "models", name, add_sub(), config)
    with capture_logs() as log, pytest.raises(InternalError) as raised:
        await models.load(name)
    assert str(raised.value) == POLL_FAILURE.format(name=name)
    [line] = [line for line in log if line["event"] == "load refused"]
    assert line["reason"]
    [entry] = [entry for entry in await models.index() if entry.name == name]
    assert (entry.version, entry.state, entry.reason) == (None, None, "")


async def test_folders_without_a_model_or_a_version_are_told_as_recorded(
    models: ModelManager, tmp_path: Path
) -> None:
    (tmp_path / "models" / "bad_empty" / "1").mkdir(parents=True)
    (tmp_path / "models" / "bad_noversion").mkdir()
    (tmp_path / "models" / "bad_noversion" / "config.pbtxt").write_text(_config())
    with pytest.raises(InternalError) as internal:
        await models.load("bad_empty")
    assert str(internal.value) == POLL_FAILURE.format(name="bad_empty")
    with pytest.raises(InvalidArgumentError) as invalid:
        await models.load("bad_noversion")
    assert str(invalid.value) == (
        "load failed for model 'bad_noversion': at least one version must be available under the version "
        "policy of model 'bad_noversion'\n"
    )
    assert [entry.name for entry in await models.index()] == ["bad_empty", "simple"]


async def test_a_config_override_is_completed_and_gone_with_an_unload(models: ModelManager) -> None:
    await models.load("simple", LoadOverride('{"backend": "onnxruntime", "max_batch_size": "4"}'))
    [serving] = models.ready_versions("simple")
    assert serving.config.max_batch_size == 4
    assert [tensor.name for tensor in serving.config.inputs] == ["INPUT0", "INPUT1"]
    assert serving.config.message.dynamic_batching.preferred_batch_size == [4]
    assert await add(models) == 7
    await models.unload("simple")
    await models.load("simple")
    [serving] = models.ready_versions("simple")
    assert serving.config.max_batch_size == 8
    assert not serving.config.message.HasField("dynamic_batching")


async def test_an_override_that_does_not_load_leaves_the_old_version_serving(models: ModelManager) -> None:
    [before] = models.ready_versions("simple")
    tensors = {
        kind: [{"name": name, "data_type": "TYPE_FP32", "dims": [16]} for name in names]
        for kind, names in (("input", ("INPUT0", "INPUT1")), ("output", ("OUTPUT0", "OUTPUT1")))
    }
    with pytest.raises(InvalidArgumentError) as raised:
        await models.load("simple", LoadOverride(json.dumps({"max_batch_size": 8, **tensors})))
    why = (
        "Invalid argument: unable to load model 'simple', configuration expects datatype TYPE_FP32 for input "
        "'INPUT0', model provides TYPE_INT32"
    )
    assert str(raised.value) == LOAD_FAILURE.format(name="simple", reason=why)
    assert models.ready_versions("simple") == [before]
    assert models.all_ready()
    assert await add(models) == 7


@pytest.mark.parametrize(
    "override",
    [
        LoadOverride("{not json"),
        LoadOverride('{"name": "other"}'),
        LoadOverride('{"no_such_field": 1}'),
        LoadOverride(None, {"1/model.onnx": ADD_SUB}),
        LoadOverride("{}", {"../models/simple/1/model.onnx": ADD_SUB}),
        LoadOverride("{}", {"/tmp/model.onnx": ADD_SUB}),
        LoadOverride("{}", {"A" * 256: ADD_SUB}),
        LoadOverride(
            '{"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": {"trt_engine_cache_path": "/tmp"}}]}}}'
        ),
    ],
    ids=["JSON", "name", "field", "no config", "outside", "absolute", "too long", "cache path"],
)
async def test_an_override_that_is_wrong_is_one_sentence_and_changes_nothing(
    models: ModelManager, override: LoadOverride
) -> None:
    with pytest.raises(InternalError) as raised:
        await models.load("simple", override)
    assert str(raised.value) == POLL_FAILURE.format(name="simple")
    assert await add(models) == 7


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            {"backend": "onnxruntime", "default_model_filename": "../../simple/1/model.onnx"},
            "it must stay inside the version's folder",
        ),
        (
            {"backend": "onnxruntime", "default_model_filename": "/etc/passwd"},
            "it must stay inside the version's folder",
        ),
        ({"model_operations": {"op_library_filename": ["x.so"]}}, "Unsupported: .*model_operations"),
        ({"backend": "python"}, "unable to find backend library for backend 'python'"),
    ],
)
async def test_an_override_loads_neither_code_nor_files_of_the_server(
    models: ModelManager, config: dict[str, Any], why: str
) -> None:
    for files in ({}, {"1/model.onnx": ADD_SUB}):
        with pytest.raises(InvalidArgumentError, match=why):
            await models.load("simple", LoadOverride(json.dumps(config), files))
    assert await add(models) == 7


async def test_weights_of_an_overriding_file_cannot_lie_elsewhere(
    models: ModelManager, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 64)
    built = identity(TensorProto.FLOAT, ["N", 4])
    tensor = built.graph.initializer.add(name="W", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add(key="location")
    for location in (str(secret), "../" * 20 + str(secret)):
        entry.value = location
        with pytest.raises(InvalidArgumentError, match="external data .* of tensor 'W' is not inside"):
            await models.load("thief", LoadOverride("{}", {"1/model.onnx": built.SerializeToString()}))


async def test_a_model_of_a_requests_files_works_with_its_labels_and_weights(
    models: ModelManager, tmp_path: Path
) -> None:
    """A new name, external weights and a label file, all from the request; the disk keeps nothing of it."""
    built = identity(TensorProto.INT32, ["N", 16])
    weights = np.full(16, 5, np.int32)
    built.graph.initializer.append(onnx.numpy_helper.from_array(weights, "W"))
    built.graph.node[0].CopyFrom(onnx.helper.make_node("Add", ["INPUT0", "W"], ["OUTPUT0"]))
    onnx.save(built, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    files = {
        "1/model.onnx": (tmp_path / "m.onnx").read_bytes(),
        "1/w.bin": (tmp_path / "w.bin").read_bytes(),
        "labels.txt": b"cat\ndog\n",
    }
    output = {"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [16], "label_filename": "labels.txt"}
    config = {
        "backend": "onnxruntime",
        "max_batch_size": 8,
        "input": [{"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [16]}],
        "output": [output],
    }
    await models.load("new", LoadOverride(json.dumps(config), files))
    with models.acquire("new", 1) as handle:
        assert handle.labels == {"OUTPUT0": ("cat", "dog")}
        request = InferRequest("new", None, {"INPUT0": np.ones((1, 16), np.int32)})
        assert (await handle.submit(request)).outputs["OUTPUT0"].tolist() == [[6] * 16]
    assert [entry.name for entry in await models.index()] == ["simple"]


async def test_a_file_override_hides_the_repositorys_files_until_the_next_load(
    models: ModelManager,
) -> None:
    """The config.pbtxt is not read either: the override's is completed from the graph alone."""
    await models.load("simple", LoadOverride('{"max_batch_size": 2}', {"5/model.onnx": ADD_SUB}))
    [serving] = models.ready_versions("simple")
    assert (serving.key.version, serving.config.max_batch_size) == (5, 2)
    assert await add(models) == 7
    await models.load("simple")
    [serving] = models.ready_versions("simple")
    assert (serving.key.version, serving.config.max_batch_size) == (1, 8)


async def test_a_variant_of_the_config_is_taken_where_there_is_one(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    add_model(tmp_path, "other", add_sub(), ADD_SUB_CONFIG)
    (folder / "configs").mkdir()
    (folder / "configs" / "small.pbtxt").write_text(ADD_SUB_CONFIG.replace("8", "3"))
    models = real_manager(tmp_path, mode=ControlMode.NONE, config_name="small")
    await models.start()
    sizes = {name: models.ready_versions(name)[0].config.max_batch_size for name in models.model_names()}
    assert sizes == {"simple": 3, "other": 8}
    await models.close()


async def test_a_poll_follows_a_copied_version_and_survives_half_of_one(tmp_path: Path) -> None:
    """Version 2 is first cut short, then whole: version 1 serves until 2 does."""
    folder = add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    models = real_manager(tmp_path, mode=ControlMode.POLL)
    await models.start()
    (folder / "2").mkdir()
    (folder / "2" / "model.onnx").write_bytes(ADD_SUB[:-40])
    touch(folder / "2")
    await models.poll()
    assert [each.key.version for each in models.ready_versions("simple")] == [1]
    (folder / "2" / "model.onnx").write_bytes(ADD_SUB)
    touch(folder / "2" / "model.onnx")
    await models.poll()
    assert [each.key.version for each in models.ready_versions("simple")] == [2]
    assert await add(models) == 7
    shutil.rmtree(folder)
    await models.poll()
    assert models.ready_versions("simple") == []
    await models.close()
