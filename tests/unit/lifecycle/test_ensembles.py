"""Ensembles and their models in the manager: the order of loads, who needs whom, who comes and goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from support.ensembles import ensemble_config, settle, step
from support.model_control import SteeredLoader, add_folders, doubling_config, steered_manager, touch
from support.sessions import GatedSession

from naiad.config.model_config import ModelConfig, TensorConfig, VersionPolicy, VersionPolicyKind
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from naiad.core.tensors import InferRequest
from naiad.lifecycle.control import ControlMode
from naiad.lifecycle.states import ReadyState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.lifecycle.manager import ModelManager


def chain(name: str, *models: str, version: int = -1, **changes: object) -> ModelConfig:
    """An ensemble that doubles in one model after the other."""
    names = ["given", *(f"t{index}" for index in range(1, len(models))), "end"]
    steps = [
        step(
            model,
            {"INPUT0" if not model.startswith("E") else "given": names[index]},
            {"OUTPUT0" if not model.startswith("E") else "end": names[index + 1]},
            version,
        )
        for index, model in enumerate(models)
    ]
    return ensemble_config(name, ("given",), ("end",), *steps, **changes)  # type: ignore[arg-type]  # a shorthand


@pytest.fixture
def loader() -> SteeredLoader:
    """E is a, b; E2 is E, c. The folders are made by the tests."""
    loader = SteeredLoader()
    loader.configs = {"E": chain("E", "a", "b"), "E2": chain("E2", "E", "c")}
    return loader


@pytest_asyncio.fixture
async def models(tmp_path: Path, loader: SteeredLoader) -> AsyncIterator[ModelManager]:
    """Explicit control over a, b, c, E and E2, none loaded."""
    add_folders(tmp_path, "a/1", "b/1", "c/1", "E/1", "E2/1")
    manager = steered_manager(loader, tmp_path)
    yield manager
    loader.gate.set()
    await manager.close()


async def answer(models: ModelManager, name: str = "E") -> float:
    with models.acquire(name, None) as handle:
        response = await handle.submit(InferRequest(name, None, {"given": np.full((1, 2), 3, np.float32)}))
    return float(response.outputs["end"][0, 0])


def ready(models: ModelManager) -> list[str]:
    return [name for name in models.model_names() if models.is_ready(name, None)]


async def reason(models: ModelManager, name: str = "E") -> str:
    (entry,) = [entry for entry in await models.index() if entry.name == name]
    return str(entry.reason)


@pytest.mark.parametrize("mode", [ControlMode.NONE, ControlMode.POLL])
async def test_at_start_an_ensemble_serves_wherever_it_lies_in_the_alphabet(
    tmp_path: Path, loader: SteeredLoader, mode: ControlMode
) -> None:
    add_folders(tmp_path, "a/1", "b/1", "c/1", "E/1", "E2/1")
    models = steered_manager(loader, tmp_path, mode=mode)
    with capture_logs() as lines:
        await models.start()
    assert ready(models) == ["E", "E2", "a", "b", "c"]
    assert models.all_ready()
    assert (await answer(models), await answer(models, "E2")) == (12, 24)
    assert not [line for line in lines if line["log_level"] in ("warning", "error")]
    await models.close()


async def test_loading_an_ensemble_loads_what_it_needs(models: ModelManager, loader: SteeredLoader) -> None:
    await models.load("E2")
    assert ready(models) == ["E", "E2", "a", "b", "c"]
    assert await answer(models, "E2") == 24
    assert loader.loads == {"a/1": 1, "b/1": 1, "c/1": 1, "E/1": 1, "E2/1": 1}


async def test_loading_an_ensemble_again_loads_its_changed_models_anew(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    await models.load("E")
    touch(tmp_path / "b" / "1" / "model.onnx")
    await models.load("E")
    assert loader.loads == {"a/1": 1, "b/1": 2, "E/1": 1}
    assert await answer(models) == 12


async def test_an_ensemble_to_load_at_start_brings_its_models(tmp_path: Path, loader: SteeredLoader) -> None:
    add_folders(tmp_path, "a/1", "b/1", "c/1", "E/1")
    models = steered_manager(loader, tmp_path)
    await models.start(["E"])
    assert ready(models) == ["E", "a", "b"]
    assert models.all_ready()
    await models.close()


async def test_missing_models_are_named_to_the_client_and_in_the_index(
    tmp_path: Path, loader: SteeredLoader
) -> None:
    add_folders(tmp_path, "a/1", "E/1", "E2/1", "c/1")
    models = steered_manager(loader, tmp_path)
    text = "ensemble E contains models that are not available or ambiguous: b"
    with pytest.raises(InvalidArgumentError) as caught:
        await models.load("E")
    assert caught.value.message == f"load failed for model 'E': {text}\n"
    assert await reason(models) == text
    with pytest.raises(InvalidArgumentError) as caught:
        await models.load("E2")
    assert caught.value.message == (
        f"load failed for model 'E2': ensemble 'E2' depends on 'E' which is not valid. "
        f"Model 'E' failed with error: {text}\n"
    )
    assert not models.all_ready()
    with pytest.raises(NotFoundError, match="'E' has no available versions"):
        models.acquire("E", None)
    add_folders(tmp_path, "b/1")
    await models.load("b")
    assert ready(models) == ["E", "E2", "a", "b", "c"]  # what waited has come
    assert models.all_ready()
    await models.close()


async def test_a_model_that_failed_to_load_is_quoted(models: ModelManager, loader: SteeredLoader) -> None:
    loader.broken["b/1"] = UnavailableError("no file")
    with capture_logs() as lines, pytest.raises(InvalidArgumentError) as caught:
        await models.load("E")
    assert caught.value.message == (
        "load failed for model 'E': ensemble 'E' depends on 'b' which has no loaded version. Model 'b' loading "
        "failed with error: version 1 is at UNAVAILABLE state: Unavailable: no file;\n\n"
    )
    refused = [line for line in lines if line["event"] == "ensemble refused"]
    assert [line["model"] for line in refused] == ["E"]
    loader.broken.clear()
    await models.load("E")
    assert await answer(models) == 12


async def test_the_version_that_a_step_requires_must_be_there(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    loader.configs["E"] = chain("E", "a", version=2)
    with pytest.raises(InvalidArgumentError) as caught:
        await models.load("E")
    assert caught.value.message == (
        "load failed for model 'E': ensemble 'E' depends on 'a' whose required version 2 is not loaded.\n"
    )
    add_folders(tmp_path, "a/2")
    await models.load("a")
    assert await answer(models) == 6


@pytest.mark.parametrize("names", [("E",), ("E", "E2"), ("E", "E2", "E3")])
async def test_a_circle_of_ensembles_is_refused(
    tmp_path: Path, loader: SteeredLoader, names: tuple[str, ...]
) -> None:
    for index, name in enumerate(names):
        add_folders(tmp_path, f"{name}/1")
        loader.configs[name] = chain(name, names[(index + 1) % len(names)])
    models = steered_manager(loader, tmp_path, mode=ControlMode.NONE)
    await asyncio.wait_for(models.start(), 20)
    assert not ready(models)
    for index, name in enumerate(names):
        before = names[index - 1]
        assert await reason(models, name) == (
            f"circular dependency between ensembles: {name} -> ... -> {before} -> {name}"
        )
    await models.close()


async def test_a_model_that_goes_takes_its_ensembles_along_and_brings_them_back(models: ModelManager) -> None:
    await models.load("E2")
    with capture_logs() as lines:
        await models.unload("a")
    assert ready(models) == ["b", "c"]
    assert [line["model"] for line in lines if line["event"] == "ensemble out of service"] == ["E", "E2"]
    assert models.all_ready()  # someone wanted it so
    await settle()
    assert "not available or ambiguous: a" in await reason(models)
    assert "depends on 'E' which is not valid" in await reason(models, "E2")
    await models.load("a")
    assert ready(models) == ["E", "E2", "a", "b", "c"]
    assert await answer(models, "E2") == 24


async def test_a_request_at_work_outlives_the_unload_of_its_models(tmp_path: Path) -> None:
    session = GatedSession()
    loader = SteeredLoader(session)
    loader.configs = {"E": chain("E", "a", "b")}
    add_folders(tmp_path, "a/1", "b/1", "E/1")
    models = steered_manager(loader, tmp_path)
    await models.load("E")
    at_work = asyncio.create_task(answer(models))
    await session.run_began()
    for name in ("a", "b", "E"):
        await models.unload(name)
    session.open()
    assert await asyncio.wait_for(at_work, 20) == 12
    await models.close()


async def test_a_request_that_is_still_being_read_outlives_the_unload_of_its_models(
    models: ModelManager,
) -> None:
    """Its call holds the ensemble, and with it what the steps need, before there is anything to submit."""
    await models.load("E2")
    with models.acquire("E2", None) as handle:
        for name in ("a", "b", "c", "E", "E2"):
            await models.unload(name)
        await settle()
        request = InferRequest("E2", None, {"given": np.full((1, 2), 3, np.float32)})
        response = await asyncio.wait_for(handle.submit(request), 20)
    assert response.outputs["end"].tolist() == [[24, 24]]
    assert models.unanswered() == {}


async def test_a_drain_lets_requests_go_through_all_their_steps(tmp_path: Path) -> None:
    """The models of an ensemble may not stop before it has: a request between two steps needs the next one."""
    session = GatedSession()
    loader = SteeredLoader(session)
    loader.configs = {"E": chain("E", "a", "b"), "E2": chain("E2", "E", "c")}
    add_folders(tmp_path, "a/1", "b/1", "c/1", "E/1", "E2/1")
    models = steered_manager(loader, tmp_path)
    await models.load("E2")
    at_work = asyncio.create_task(answer(models, "E2"))
    await session.run_began()
    draining = asyncio.create_task(models.drain())
    await settle()
    session.open()
    assert await asyncio.wait_for(at_work, 20) == 24
    await asyncio.wait_for(draining, 20)
    await models.close()


async def test_a_reload_of_a_model_is_checked_against_its_ensembles(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    await models.load("E")
    loader.configs["b"] = doubling_config("b", inputs=(TensorConfig("INPUT0", DataType.FP32, (7,)),))
    touch(tmp_path / "b")
    await models.load("b")
    assert ready(models) == ["a", "b"]
    await settle()
    assert "inconsistent shape: [-1,2] is inferred from model a while [-1,7]" in await reason(models)
    loader.configs["b"] = doubling_config("b")
    touch(tmp_path / "b")
    await models.load("b")
    assert await answer(models) == 12


async def test_an_ensemble_and_its_model_change_together_without_a_gap(
    tmp_path: Path, loader: SteeredLoader
) -> None:
    """The ensemble's new config fits only the model's new one: the old pair serves until both are there."""
    add_folders(tmp_path, "a/1", "b/1", "E/1")
    models = steered_manager(loader, tmp_path, mode=ControlMode.POLL, poll_secs=1_000)
    await models.start()
    seen: set[bool] = set()
    models.on_state = lambda: seen.add(models.is_ready("E", 1))
    renamed = (TensorConfig("RENAMED", DataType.FP32, (2,)),)
    loader.configs["a"] = doubling_config("a", inputs=renamed)
    loader.configs["E"] = ensemble_config(
        "E", ("given",), ("end",), step("a", {"RENAMED": "given"}, {"OUTPUT0": "end"})
    )
    touch(tmp_path / "E")
    await models.poll()
    assert await answer(models) == 12  # the old one: the new one waits
    touch(tmp_path / "a")
    await models.poll()
    ((version, serving),) = [(each.key.version, each.config) for each in models.ready_versions("E")]
    assert (version, serving) == (1, loader.configs["E"])
    assert seen == {True}
    await models.close()


async def test_a_broken_new_config_does_not_take_a_working_ensemble_down(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    await models.load("E")
    loader.configs["E"] = chain("E", "a", "nosuch")
    touch(tmp_path / "E")
    with pytest.raises(InvalidArgumentError, match="not available or ambiguous: nosuch"):
        await models.load("E")
    assert await answer(models) == 12


async def test_the_latest_version_is_followed(models: ModelManager, tmp_path: Path) -> None:
    await models.load("E")
    (serving,) = models.ready_versions("E")
    add_folders(tmp_path, "a/2")
    await models.load("a")
    assert models.ready_versions("E") == [serving]  # it is bound anew, not loaded anew
    assert await answer(models) == 12
    counted = {each.key.version: each.statistics.success.count for each in models.ready_versions("a")}
    assert counted == {1: 0, 2: 1}


async def test_every_version_of_an_ensemble_serves(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    loader.configs["E"] = replace(chain("E", "a"), version_policy=VersionPolicy(VersionPolicyKind.ALL))
    add_folders(tmp_path, "E/3")
    await models.load("E")
    await models.unload("a")
    await models.load("a")
    assert [each.key.version for each in models.ready_versions("E")] == [1, 3]


@pytest.mark.parametrize(
    ("loaded", "left"),
    [
        (("E",), []),
        (("a", "E"), ["a"]),  # it was asked for by its own name
        (("E", "other"), ["b", "other"]),  # another ensemble needs it
        (("E2",), ["c"]),  # E2 cannot serve, and still needs it
    ],
)
async def test_unloading_with_dependents_leaves_what_others_need(
    tmp_path: Path,
    loader: SteeredLoader,
    models: ModelManager,
    loaded: tuple[str, ...],
    left: list[str],
) -> None:
    loader.configs["other"] = chain("other", "b")
    add_folders(tmp_path, "other/1")
    for name in loaded:
        await models.load(name)
    await models.unload("E", dependents=True)
    assert ready(models) == left


async def test_unloading_without_dependents_leaves_its_models(models: ModelManager) -> None:
    await models.load("E")
    await models.unload("E")
    assert ready(models) == ["a", "b"]


async def test_unloading_the_outermost_with_dependents_unloads_all(models: ModelManager) -> None:
    await models.load("E2")
    await models.unload("E2", dependents=True)
    assert not ready(models)
    assert models.all_ready()


async def test_an_unloaded_ensemble_does_not_come_back_by_itself(models: ModelManager) -> None:
    await models.load("E")
    await models.unload("a")
    await models.unload("E")
    await settle()
    await models.load("a")
    assert ready(models) == ["a", "b"]
    assert await reason(models) == "unloaded"
    states = {entry.name: entry.state for entry in await models.index()}
    assert states["E"] is ReadyState.UNAVAILABLE


async def test_labels_are_the_producing_models_unless_the_ensemble_has_its_own(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    loader.labels = {"b": {"OUTPUT0": ("cat", "dog")}, "E2": {"end": ("of its own",)}}
    loader.configs["E3"] = chain("E3", "E")
    add_folders(tmp_path, "E3/1")
    await models.load("E2")
    await models.load("E3")
    labels = {name: models.ready_versions(name)[0].labels for name in ("E", "E2", "E3")}
    assert labels == {
        "E": {"end": ("cat", "dog")},
        "E2": {"end": ("of its own",)},
        "E3": {"end": ("cat", "dog")},
    }
