"""A version is loaded whole or not at all: completed config, one session an instance, warm."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.onnx_models import add_sub, slow, weights_as_inputs
from support.runtime import config, save

from naiad.config.model_config import InstanceGroup, InstanceKind, ModelConfig, TensorConfig
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.layout import MeasuredLayout
from naiad.runtime.loader import inspect_version, load_version
from naiad.runtime.onnx_session import OnnxSession
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA
from naiad.runtime.threads import CpuBudget
from naiad.runtime.tuning_process import LayoutTuner, WarmModel

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


class OneInstance(LayoutTuner):
    """Finds that one instance is best, whatever the model; knows it at the second load."""

    def __init__(self) -> None:
        super().__init__(limit_s=1.0)
        self.models: list[WarmModel] = []

    def known(self, key: str) -> MeasuredLayout | None:
        return MeasuredLayout(1, "measured: earlier") if self.models else None

    def tune(self, key: str, model: WarmModel) -> MeasuredLayout:
        self.models.append(model)
        return MeasuredLayout(1, "measured: 1 x 2 is best")


def test_what_was_measured_is_what_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions of the rule's layout are closed; the version has one instance and its pool, warm."""
    closed: list[OnnxSession] = []
    monkeypatch.setattr(OnnxSession, "close", lambda session: closed.append(session))  # noqa: PLW0108  # binds
    tuner = OneInstance()
    path = save(add_sub(), tmp_path)
    loaded = load_version(
        path, config(), environment=ENVIRONMENT, budget=BUDGET, complete=complete, tuner=tuner
    )
    assert closed == [tuner.models[0].session]
    assert (loaded.instance_names, loaded.layout.intra_op_threads) == (("m_0",), 2)
    assert loaded.config.instance_groups == (InstanceGroup("m", InstanceKind.CPU, 1),)
    assert loaded.layout.reason == "measured: 1 x 2 is best"
    session = loaded.sessions[0]
    assert isinstance(session, OnnxSession)
    assert session._session.get_session_options().intra_op_num_threads == 2
    assert [run.batch_size for run in loaded.warmup.runs] == [1, 2]


def test_a_reload_opens_what_is_known_and_measures_nothing(tmp_path: Path) -> None:
    tuner = OneInstance()
    path = save(add_sub(), tmp_path)
    for _ in range(2):
        loaded = load_version(
            path, config(), environment=ENVIRONMENT, budget=BUDGET, complete=complete, tuner=tuner
        )
        loaded.close()
    assert len(tuner.models) == 1
    assert loaded.layout.reason == "measured: earlier"


def test_a_session_for_another_layout_has_its_threads(tmp_path: Path) -> None:
    """What is measured is what would serve: so many callers, and the rest of the budget in the pool."""
    tuner = OneInstance()
    load_version(
        save(add_sub(), tmp_path),
        config(),
        environment=ENVIRONMENT,
        budget=CpuBudget(4, "test"),
        complete=complete,
        tuner=tuner,
    ).close()
    for instances, threads in ((4, 1), (2, 3), (1, 4)):
        session = tuner.models[0].open_session(instances)
        assert isinstance(session, OnnxSession)
        assert session._session.get_session_options().intra_op_num_threads == threads
        session.close()


@pytest.mark.parametrize(
    ("fields", "threads"),
    [
        ({"instance_groups": (InstanceGroup("", InstanceKind.CPU, 2),)}, 2),
        ({"parameters": {"intra_op_thread_count": "1"}}, 2),
        ({}, 1),
    ],
)
def test_nothing_is_measured_where_there_is_nothing_to_choose(
    tmp_path: Path, fields: dict[str, object], threads: int
) -> None:
    tuner = OneInstance()
    loaded = load_version(
        save(add_sub(), tmp_path),
        config(**fields),
        environment=ENVIRONMENT,
        budget=CpuBudget(threads, "test"),
        complete=complete,
        tuner=tuner,
    )
    assert tuner.models == []
    loaded.close()


def test_a_real_model_is_measured_and_serves(tmp_path: Path) -> None:
    """A tenth of a second is enough to open both layouts and to call them; which one wins is the machine's."""
    loaded = load_version(
        save(slow(), tmp_path),
        config(),
        environment=ENVIRONMENT,
        budget=BUDGET,
        complete=complete,
        tuner=LayoutTuner(limit_s=0.1),
    )
    assert loaded.layout.reason.startswith(("measured: ", "rule: 2 x 1; "))
    assert "1 x 2" in loaded.layout.reason
    assert len(loaded.sessions) in {1, 2}
    loaded.close()


def test_inspecting_measures_nothing_and_says_that_a_server_would(tmp_path: Path) -> None:
    path = save(add_sub(), tmp_path)

    def reason(measures: bool) -> str:
        return inspect_version(
            path, config(), environment=ENVIRONMENT, budget=BUDGET, complete=complete, measures=measures
        ).layout.reason

    assert reason(measures=False) == "rule: one instance a CPU thread"
    assert "a server measures others at load" in reason(measures=True)
