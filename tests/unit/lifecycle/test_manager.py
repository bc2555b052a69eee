"""The manager with a loader that the test steers: states, handles, draining, failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from support.sessions import DoublingSession, GatedSession

from naiad.config.model_config import (
    DynamicBatching,
    ModelConfig,
    TensorConfig,
    VersionPolicy,
    VersionPolicyKind,
)
from naiad.core.clock import MonotonicClock
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from naiad.core.tensors import InferRequest
from naiad.lifecycle.loading import LoadedModel
from naiad.lifecycle.manager import ModelManager
from naiad.repository.layout import ModelFolder
from naiad.runtime.layout import InstanceLayout
from naiad.runtime.loader import LoadedVersion
from naiad.runtime.warmup import WarmupReport
from naiad.scheduling.batching import BatchPolicy
from naiad.scheduling.factory import batch_policy


def config(name: str = "m", **changes: object) -> ModelConfig:
    values: dict[str, object] = {
        "name": name,
        "max_batch_size": 4,
        "inputs": (TensorConfig("INPUT0", DataType.FP32, (2,)),),
        "outputs": (TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
        "version_policy": VersionPolicy(VersionPolicyKind.ALL),
        "dynamic_batching": DynamicBatching(),
    }
    return ModelConfig(**(values | changes))  # type: ignore[arg-type]  # a test's shorthand


class FakeLoader:
    """Loads DoublingSessions; versions in `broken` fail with what is written there."""

    def __init__(self, *, session: DoublingSession | None = None) -> None:
        self.broken: dict[str, Exception] = {}
        self.session = session or DoublingSession()

    def read_config(self, folder: ModelFolder) -> ModelConfig:
        if folder.name in self.broken:
            raise self.broken[folder.name]
        return config(folder.name)

    def load(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        error = self.broken.get(f"{folder.name}/{version}")
        if error is not None:
            raise error
        loaded = LoadedVersion(
            config=config,
            sessions=(self.session,),
            instance_names=(f"{folder.name}_0",),
            execution_providers=("CPUExecutionProvider",),
            fallbacks=(),
            notes=(),
            layout=InstanceLayout(groups=(), instances=(), intra_op_threads=1, inter_op_threads=1, notes=()),
            warmup=WarmupReport(runs=()),
        )
        return LoadedModel(loaded, None)


def folder(name: str, *versions: int) -> ModelFolder:
    return ModelFolder(name, Path("/repository") / name, versions, ())


def manager(loader: FakeLoader) -> ModelManager:
    return ModelManager(loader, clock=MonotonicClock(), max_queue_size=10, load_threads=2)


def request(value: float) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((1, 2), value, np.float32)})


async def test_every_version_of_the_policy_is_loaded_and_the_highest_answers() -> None:
    models = manager(FakeLoader())
    told = []
    models.on_state = lambda: told.append(models.is_ready("m", None))
    await models.load_all([folder("m", 1, 2)])
    assert told[-1] is True
    assert models.all_ready()
    with models.acquire("m", None) as handle:
        assert handle.key.version == 2
        answer = await handle.submit(request(3))
        assert answer.outputs["OUTPUT0"].tolist() == [[6, 6]]
    assert [serving.key.version for serving in models.ready_versions("m")] == [1, 2]
    await models.close()


async def test_a_failure_stays_with_its_model_and_version() -> None:
    loader = FakeLoader()
    loader.broken = {
        "unreadable": InvalidArgumentError("no such field"),
        "m/2": UnavailableError("no file"),
        "surprising/1": RuntimeError("a bug"),
    }
    models = manager(loader)
    await models.load_all([folder("unreadable", 1), folder("m", 1, 2), folder("surprising", 1)])
    assert not models.all_ready()
    with models.acquire("m", None) as handle:
        assert handle.key.version == 1
    with pytest.raises(UnavailableError, match="version 2 is not at ready state"):
        models.acquire("m", 2)
    with pytest.raises(NotFoundError, match="'unreadable' is not found"):
        models.acquire("unreadable", None)
    with pytest.raises(NotFoundError, match="'surprising' has no available versions"):
        models.acquire("surprising", None)
    reasons = {model.name: model.problem for model in models.models()}
    assert str(reasons["unreadable"]) == "no such field"
    await models.close()


async def test_draining_waits_for_answers_and_for_handles() -> None:
    session = GatedSession()
    models = manager(FakeLoader(session=session))
    await models.load_all([folder("m", 1)])
    handle = models.acquire("m", None)
    answer = handle.submit(request(1))
    await session.run_began()
    draining = asyncio.create_task(models.drain())
    await asyncio.sleep(0)
    session.open()
    assert (await answer).outputs["OUTPUT0"].tolist() == [[2, 2]]
    await asyncio.sleep(0)
    assert not draining.done()
    handle.release()
    handle.release()  # a second release counts for nothing
    await asyncio.wait_for(draining, 5)
    await models.close()
    assert session.closed


@pytest.mark.parametrize(
    ("model", "policy"),
    [
        (config(dynamic_batching=None), BatchPolicy()),
        (config(max_batch_size=0), BatchPolicy()),
        (config(), BatchPolicy(4, (4,), 0)),
        (config(dynamic_batching=DynamicBatching((4, 2), 100)), BatchPolicy(4, (2, 4), 100_000)),
    ],
)
def test_requests_merge_only_as_the_config_says(model: ModelConfig, policy: BatchPolicy) -> None:
    assert batch_policy(model) == policy
