"""A version that asks for TensorRT: CUDA serves from the first, the engine takes its place, or says why not.

The engine is ONNX Runtime on the CPU, under the providers' names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto
from support.engines import ENVIRONMENT, FakeTensorRt, fake_tensorrt
from support.onnx_models import add_sub, identity
from support.runtime import config as make_config
from support.runtime import save

from naiad.config.complete import complete_model_config
from naiad.config.model_config import Accelerator, InstanceGroup, InstanceKind, ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.graph import prepare_model
from naiad.runtime.loader import inspect_version, load_version
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA, TENSORRT
from naiad.runtime.tensorrt.build import BuildState
from naiad.runtime.tensorrt.builder import EngineBuilder
from naiad.runtime.tensorrt.cache import EngineCache
from naiad.runtime.tensorrt.service import EngineService
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from naiad.core.tensors import TensorSpec
    from naiad.runtime.loaded import LoadedVersion

WAIT_S = 20
BUDGET = CpuBudget(2, "test")
ONES = np.ones((1, 16), np.float32)


def complete(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    optional_inputs: Collection[str],
) -> ModelConfig:
    """The config is complete as it is."""
    return config


def accelerated(accelerator: dict[str, str] | None = None, **fields: Any) -> ModelConfig:
    tensors = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    inputs, outputs = (tuple(TensorConfig(name, DataType.FP32, (16,)) for name in names) for names in tensors)
    values: dict[str, Any] = {
        "max_batch_size": 4,
        "inputs": inputs,
        "outputs": outputs,
        "gpu_accelerators": (Accelerator("tensorrt", accelerator or {}),),
    }
    return make_config(**(values | fields))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRt]:
    with fake_tensorrt(monkeypatch) as made:
        yield made


@pytest.fixture
def service(gpu: FakeTensorRt, tmp_path: Path) -> Iterator[EngineService]:
    builder = EngineBuilder()
    cache = EngineCache(tmp_path / "cache", 1_000_000)
    yield EngineService(builder, gpu, onnxruntime="1.31.1", cache=cache)
    gpu.gate.set()
    assert builder.close(WAIT_S)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    return save(add_sub(TensorProto.FLOAT), folder)


def load(service: EngineService, path: Path, model: ModelConfig) -> LoadedVersion:
    return load_version(
        path, model, environment=ENVIRONMENT, budget=BUDGET, complete=complete, engines=service
    )


def state(loaded: LoadedVersion) -> BuildState:
    assert loaded.engine is not None
    assert loaded.engine.build is not None
    return loaded.engine.build.status.state


def finish(loaded: LoadedVersion) -> None:
    assert loaded.engine is not None
    assert loaded.engine.build is not None
    assert loaded.engine.build.wait(WAIT_S)


def told(loaded: LoadedVersion) -> tuple[tuple[str, ...], set[str], int]:
    """Providers, those of the instances, and how many fallbacks there are."""
    instances = set(loaded.current_instance_providers.values())
    return loaded.current_providers, instances, len(loaded.current_fallbacks)


def answer(loaded: LoadedVersion) -> float:
    outputs = loaded.sessions[0].run({"INPUT0": ONES, "INPUT1": ONES}, ["OUTPUT0"])
    return float(outputs["OUTPUT0"][0, 0])


def test_cuda_serves_while_the_engine_is_built_and_what_is_told_changes_with_the_swap(
    gpu: FakeTensorRt, service: EngineService, model_file: Path
) -> None:
    loaded = load(service, model_file, accelerated({"precision_mode": "FP16"}))
    assert answer(loaded) == 2
    assert told(loaded) == ((CUDA, CPU), {CUDA}, 1)
    assert f"{TENSORRT} is not used by 'm' yet: its engine is " in loaded.current_fallbacks[0]
    assert loaded.fallbacks == (), "which is no warning"
    assert any("a TensorRT engine in FP16 for batch sizes 1, 2, 4" in note for note in loaded.notes)
    gpu.gate.set()
    finish(loaded)
    assert state(loaded) is BuildState.SWAPPED
    assert answer(loaded) == 2
    assert told(loaded) == ((TENSORRT, CUDA, CPU), {TENSORRT}, 0)
    assert gpu.opened == [(CUDA, CPU), (TENSORRT, CUDA, CPU)]
    assert gpu.options[0]["trt_fp16_enable"] == "True"
    assert gpu.options[0]["trt_profile_max_shapes"] == "INPUT0:4x16,INPUT1:4x16"
    loaded.close()


def test_blocking_has_the_engine_before_the_version_is_ready(
    gpu: FakeTensorRt, service: EngineService, model_file: Path
) -> None:
    gpu.gate.set()
    loaded = load(service, model_file, accelerated(parameters={"naiad.tensorrt_build": "blocking"}))
    assert state(loaded) is BuildState.SWAPPED
    loaded.close()


def test_each_instance_on_a_gpu_has_an_engine_session_and_those_on_the_cpu_stay(
    gpu: FakeTensorRt, service: EngineService, model_file: Path
) -> None:
    gpu.gate.set()
    groups = (InstanceGroup("g", InstanceKind.GPU, 2), InstanceGroup("c", InstanceKind.CPU, 1))
    loaded = load(service, model_file, accelerated(instance_groups=groups))
    finish(loaded)
    assert gpu.opened.count((TENSORRT, CUDA, CPU)) == 2
    assert loaded.current_instance_providers == {"g_0": TENSORRT, "g_1": TENSORRT, "c_0": CPU}
    loaded.close()


def test_an_engine_that_answers_otherwise_is_told_as_a_fallback(
    gpu: FakeTensorRt, service: EngineService, model_file: Path, tmp_path: Path
) -> None:
    """Here one that subtracts where the model adds."""
    other = add_sub(TensorProto.FLOAT)
    other.graph.node[0].op_type = "Sub"
    (tmp_path / "other").mkdir()
    gpu.engine_model = prepare_model(save(other, tmp_path / "other"), ())
    gpu.gate.set()
    loaded = load(service, model_file, accelerated())
    finish(loaded)
    assert state(loaded) is BuildState.FAILED
    [sentence] = loaded.current_fallbacks
    assert sentence.startswith(
        f"{TENSORRT} is not used by 'm': with INPUT0 [1, 16], INPUT1 [1, 16] its output"
    )
    assert loaded.current_providers == (CUDA, CPU)
    assert answer(loaded) == 2
    loaded.close()


def test_a_tensorrt_that_the_engine_drops_is_told_with_its_reason(
    gpu: FakeTensorRt, service: EngineService, model_file: Path
) -> None:
    gpu.drops = "libnvinfer.so.10 is missing"
    gpu.gate.set()
    loaded = load(service, model_file, accelerated())
    finish(loaded)
    assert loaded.current_fallbacks == (f"{TENSORRT} is not used by 'm': libnvinfer.so.10 is missing",)
    loaded.close()


def test_an_unload_does_not_wait_for_the_build(
    gpu: FakeTensorRt, service: EngineService, model_file: Path
) -> None:
    loaded = load(service, model_file, accelerated())
    loaded.close()
    assert state(loaded) is BuildState.CANCELLED
    assert not gpu.gate.is_set(), "the build is still at work"


def test_dimensions_of_any_size_are_left_to_cuda_until_a_range_is_declared(
    gpu: FakeTensorRt, service: EngineService, tmp_path: Path
) -> None:
    gpu.gate.set()
    path = save(identity(TensorProto.FLOAT, ["N", "W"]), tmp_path)
    tensors: dict[str, Any] = {
        "inputs": (TensorConfig("INPUT0", DataType.FP32, (-1,)),),
        "outputs": (TensorConfig("OUTPUT0", DataType.FP32, (-1,)),),
    }
    loaded = load(service, path, accelerated(**tensors))
    [sentence] = loaded.fallbacks
    assert (
        'declare parameters { key: "naiad.tensorrt_shapes" value { string_value: "INPUT0:?/?/?" } }'
        in sentence
    )
    assert gpu.opened == [(CUDA, CPU)]
    loaded.close()
    declared = {"naiad.tensorrt_shapes": "INPUT0:2/4/8"}
    loaded = load(service, path, accelerated(**tensors, parameters=declared))
    finish(loaded)
    assert state(loaded) is BuildState.SWAPPED
    assert gpu.options[0]["trt_profile_opt_shapes"] == "INPUT0:4x4"
    with pytest.raises(InvalidArgumentError, match="this model takes 2/4/8 beside the batch dimension"):
        loaded.sessions[0].run({"INPUT0": np.ones((1, 9), np.float32)}, ["OUTPUT0"])
    loaded.close()


def test_paths_that_a_config_names_are_noted_and_not_used(
    gpu: FakeTensorRt, service: EngineService, model_file: Path, tmp_path: Path
) -> None:
    gpu.gate.set()
    loaded = load(service, model_file, accelerated({"trt_engine_cache_path": "/evil"}))
    finish(loaded)
    assert any("trt_engine_cache_path=/evil is not honoured" in note for note in loaded.notes)
    assert gpu.options[0]["trt_engine_cache_path"].startswith(str(tmp_path / "cache"))
    loaded.close()


@pytest.mark.parametrize(
    "parameters", [{"naiad.tensorrt_shapes": "nowhere:1/1/1"}, {"naiad.tensorrt_build": "never"}]
)
def test_wrong_parameters_are_refused_on_any_machine_and_nothing_stays_open(
    model_file: Path, parameters: dict[str, str]
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{next(iter(parameters))}' is "):
        load_version(
            model_file,
            accelerated(parameters=parameters),
            environment=OrtEnvironment("1", (CPU,)),
            budget=BUDGET,
            complete=complete,
        )


def test_without_tensorrt_one_sentence_says_who_must_act_and_nothing_is_planned(model_file: Path) -> None:
    loaded = load_version(
        model_file,
        accelerated(),
        environment=OrtEnvironment("1", (CPU,)),
        budget=BUDGET,
        complete=complete,
    )
    [sentence] = loaded.current_fallbacks
    assert sentence.startswith(f"{TENSORRT} and {CUDA} are not used by ")
    assert "install naiad[tensorrt]" in sentence
    assert not [note for note in loaded.notes if "engine" in note]
    loaded.close()


def test_an_inspection_builds_nothing_and_says_what_a_server_would(
    gpu: FakeTensorRt, service: EngineService, model_file: Path
) -> None:
    inspected = inspect_version(
        model_file, accelerated(), environment=ENVIRONMENT, budget=BUDGET, complete=complete
    )
    assert gpu.opened == [(CUDA, CPU)]
    assert any("is opened or built in the background" in note for note in inspected.notes)


def test_the_keys_are_known_where_a_config_is_completed(model_file: Path) -> None:
    """A model needs no `naiad.task` for them."""
    from naiad.config.reader import parse_model_config  # noqa: PLC0415  # of this test alone

    folder = model_file.parent.parent
    (folder / "config.pbtxt").write_text(
        'max_batch_size: 4 parameters { key: "naiad.tensorrt_build" value { string_value: "blocking" } }'
    )
    model = parse_model_config(folder, auto_complete=True)
    specs = load_version(
        model_file,
        model,
        environment=OrtEnvironment("1", (CPU,)),
        budget=BUDGET,
        complete=lambda *args, **names: complete_model_config(
            *args, **names, default_max_batch_size=4, auto_complete=True
        ),
    )
    specs.close()
