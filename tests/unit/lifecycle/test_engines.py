"""Engines are built ahead for every model that asks for them, and each that cannot be says why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from support.sessions import DoublingSession

from naiad.lifecycle.engines import EngineReport, build_engines
from naiad.lifecycle.loading import LoadedModel, RepositoryLoader
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA, TENSORRT
from naiad.runtime.tensorrt.build import EngineBuild
from naiad.runtime.tensorrt.swappable import SwappableSession
from naiad.runtime.tensorrt.version import VersionEngine
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.repository.layout import ModelFolder

ACCELERATED = (
    ADD_SUB_CONFIG
    + 'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }\n'
)


class BuildingLoader(RepositoryLoader):
    """Loads on the CPU, and then says that an engine was built behind it."""

    def load(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        """The version, with an engine that serves."""
        model = super().load(folder, version, config)
        slots = [SwappableSession(DoublingSession(), dispose=lambda old: old.close())]
        build = EngineBuild(
            "m", slots, open_engines=lambda _: [DoublingSession()], verify=lambda engines, cancelled: None
        )
        build.run()
        return replace(model, version=replace(model.version, engine=VersionEngine("m", build=build)))


def loader(kind: type[RepositoryLoader] = RepositoryLoader) -> RepositoryLoader:
    environment = OrtEnvironment("1", (CPU,))
    return kind(environment, CpuBudget(1, "test"), auto_complete=True, default_max_batch_size=4)


def test_models_that_do_not_ask_for_tensorrt_are_passed_over(tmp_path: Path) -> None:
    add_model(tmp_path, "plain", add_sub(), ADD_SUB_CONFIG)
    add_model(tmp_path, "fast", add_sub(), ACCELERATED)
    [report] = build_engines([tmp_path], loader(BuildingLoader))
    assert (report.model, report.is_built, report.reason) == ("fast/1", True, "")


def test_what_cannot_be_built_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    add_model(tmp_path, "a_broken", b"not a model", ACCELERATED)
    add_model(tmp_path, "b_wrong", add_sub(), "max_batch_size: -1")
    add_model(tmp_path, "c_here", add_sub(), ACCELERATED)
    broken, wrong, here = build_engines([tmp_path], loader())
    assert (broken.model, broken.state) == ("a_broken/1", "failed")
    assert (wrong.model, wrong.is_built) == ("b_wrong", False)
    assert "must be non-negative" in wrong.reason
    assert here.reason.startswith(
        f"{TENSORRT} and {CUDA} are not used by 'c_here': this onnxruntime has neither"
    )


def test_only_an_engine_that_serves_is_built() -> None:
    assert [EngineReport("m", state).is_built for state in ("swapped", "failed", "cancelled")] == [
        True,
        False,
        False,
    ]
