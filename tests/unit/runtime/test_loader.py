"""A version is loaded whole or not at all: completed config, one session an instance, warm."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.onnx_models import add_sub, weights_as_inputs
from support.runtime import config, save

from naiad.config.model_config import InstanceGroup, InstanceKind, ModelConfig, TensorConfig
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.loader import inspect_version, load_version
from naiad.runtime.onnx_session import OnnxSession
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from naiad.core.tensors import TensorSpec

ENVIRONMENT = OrtEnvironment("1", (CPU,))
BUDGET = CpuBudget(2, "test")


def complete(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    optional_inputs: Collection[str],
) -> ModelConfig:
    """Take everything from the graph, with a batch dimension of up to 2."""

    def tensors(specs: Sequence[TensorSpec]) -> tuple[TensorConfig, ...]:
        return tuple(
            TensorConfig(
                spec.name, spec.datatype, (spec.shape or ())[1:], optional=spec.name in optional_inputs
            )
            for spec in specs
        )

    return replace(config, max_batch_size=2, inputs=tensors(inputs), outputs=tensors(outputs))


def refuse(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    optional_inputs: Collection[str],
) -> ModelConfig:
    raise InvalidArgumentError(f"configuration expects 3 inputs, model provides {len(inputs)}")


def test_load_gives_warm_instances_that_share_the_cpus_session(tmp_path: Path) -> None:
    loaded = load_version(
        save(add_sub(), tmp_path), config(), environment=ENVIRONMENT, budget=BUDGET, complete=complete
    )
    assert loaded.instance_names == ("m_0", "m_1")
    assert loaded.sessions[0] is loaded.sessions[1]
    assert loaded.execution_providers == (CPU,)
    assert loaded.config.instance_groups == (InstanceGroup("m", InstanceKind.CPU, 2),)
    assert [tensor.name for tensor in loaded.config.inputs] == ["INPUT0", "INPUT1"]
    assert [run.batch_size for run in loaded.warmup.runs] == [1, 2]
    assert (loaded.fallbacks, loaded.notes) == ((), ())
    ones = np.ones((1, 16), np.int32)
    assert loaded.sessions[1].run({"INPUT0": ones, "INPUT1": ones}, ["OUTPUT0"])["OUTPUT0"][0, 0] == 2
    loaded.close()


def test_weights_among_the_inputs_are_noted(tmp_path: Path) -> None:
    loaded = load_version(
        save(weights_as_inputs(), tmp_path),
        config(),
        environment=ENVIRONMENT,
        budget=BUDGET,
        complete=complete,
    )
    assert loaded.notes == ("took 1 initializers off the graph inputs so that constants fold",)
    assert [tensor.name for tensor in loaded.config.inputs] == ["X"]


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_a_gpu_that_does_not_start_is_laid_out_anew_for_the_cpu(tmp_path: Path) -> None:
    """The engine claims CUDA here and cannot create it, as with missing libraries on a real machine."""
    loaded = load_version(
        save(add_sub(), tmp_path),
        config(),
        environment=OrtEnvironment("1", (CUDA, CPU), gpu_count=2),
        budget=BUDGET,
        complete=complete,
    )
    assert loaded.execution_providers == (CPU,)
    assert loaded.config.instance_groups == (InstanceGroup("m", InstanceKind.CPU, 2),)
    assert len(loaded.fallbacks) == 1
    assert CUDA in loaded.fallbacks[0]


def test_a_gpu_asked_for_in_vain_is_a_fallback(tmp_path: Path) -> None:
    loaded = load_version(
        save(add_sub(), tmp_path),
        config(instance_groups=(InstanceGroup("", InstanceKind.GPU, 1),)),
        environment=ENVIRONMENT,
        budget=BUDGET,
        complete=complete,
    )
    assert "install naiad[gpu]" in loaded.fallbacks[0]
    assert loaded.instance_names == ("m_0_0",)


def test_a_config_that_does_not_fit_leaves_no_session_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[OnnxSession] = []
    monkeypatch.setattr(OnnxSession, "close", lambda session: closed.append(session))  # noqa: PLW0108  # binds
    with pytest.raises(InvalidArgumentError, match="model provides 2"):
        load_version(
            save(add_sub(), tmp_path), config(), environment=ENVIRONMENT, budget=BUDGET, complete=refuse
        )
    assert len(closed) == 1


def test_closing_frees_the_engines_session(tmp_path: Path) -> None:
    loaded = load_version(
        save(add_sub(), tmp_path), config(), environment=ENVIRONMENT, budget=BUDGET, complete=complete
    )
    session = loaded.sessions[0]
    assert isinstance(session, OnnxSession)
    engine = weakref.ref(session._session)
    loaded.close()
    loaded.close()
    gc.collect()
    assert engine() is None


def test_inspect_tells_the_same_and_keeps_nothing_open(tmp_path: Path) -> None:
    path = save(add_sub(), tmp_path)
    loaded = load_version(path, config(), environment=ENVIRONMENT, budget=BUDGET, complete=complete)
    inspected = inspect_version(path, config(), environment=ENVIRONMENT, budget=BUDGET, complete=complete)
    assert inspected.config == loaded.config
    assert inspected.layout == loaded.layout
    assert inspected.execution_providers == (CPU,)
    assert [spec.name for spec in inspected.inputs] == ["INPUT0", "INPUT1"]
    assert [spec.name for spec in inspected.outputs] == ["OUTPUT0", "OUTPUT1"]
