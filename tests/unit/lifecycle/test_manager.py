"""The manager with a loader that the test steers: start, states, handles, draining, failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs
from support.model_control import SteeredLoader, add_folders, doubling_config, steered_manager
from support.sessions import GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig
from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from naiad.core.tensors import InferRequest
from naiad.lifecycle.control import UNLOADED, ControlMode
from naiad.lifecycle.states import ReadyState
from naiad.repository.layout import DUPLICATE, ModelFolder
from naiad.scheduling.batching import BatchPolicy
from naiad.scheduling.factory import batch_policy


def folder(name: str, *versions: int) -> ModelFolder:
    return ModelFolder(name, Path("/repository") / name, versions, ())


def request(value: float) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((1, 2), value, np.float32)})


async def test_every_version_of_the_policy_is_loaded_and_the_highest_answers() -> None:
    models = steered_manager(SteeredLoader())
    told = []
    models.on_state = lambda: told.append(models.is_ready("m", None))
    await models.load_all([folder("m", 1, 2)])
    assert told[-1] is True
    assert models.all_ready()
    with models.acquire("m", None) as handle:
        assert handle.key.version == 2
        answer = await handle.submit(request(3))
        assert answer.outputs["OUTPUT0"].tolist() == [[6, 6]]
    serving = models.ready_versions("m")
    assert [each.key.version for each in serving] == [1, 2]
    assert all(each.load_seconds > 0 for each in serving)
    assert [each.queued for each in serving] == [0, 0]
    await models.close()


async def test_a_failure_stays_with_its_model_and_takes_its_new_versions_along() -> None:
    """As in Triton: a model whose new versions do not all load gets none of them."""
    loader = SteeredLoader()
    loader.broken = {
        "unreadable": InvalidArgumentError("no such field"),
        "m/2": UnavailableError("no file"),
        "surprising/1": RuntimeError("a bug"),
    }
    models = steered_manager(loader)
    folders = [folder("unreadable", 1), folder("m", 1, 2), folder("surprising", 1), folder("good", 1)]
    await models.load_all(folders)
    assert not models.all_ready()
    assert models.is_ready("good", 1)
    for version in (1, 2):
        with pytest.raises(UnavailableError, match=f"version {version} is not at ready state"):
            models.acquire("m", version)
    with pytest.raises(NotFoundError, match="'unreadable' is not found"):
        models.acquire("unreadable", None)
    with pytest.raises(NotFoundError, match="'surprising' has no available versions"):
        models.acquire("surprising", None)
    known = {model.name: model for model in models.models()}
    assert str(known["unreadable"].problem) == "no such field"
    rows = {number: (entry.state, str(entry.reason)) for number, entry in known["m"].versions.items()}
    assert rows == {1: (ReadyState.UNAVAILABLE, UNLOADED), 2: (ReadyState.UNAVAILABLE, "no file")}
    assert loader.latest["m/1"].closed
    assert str(known["surprising"].versions[1].reason) == "RuntimeError: a bug"
    await models.close()


async def test_draining_waits_for_answers_and_for_handles() -> None:
    session = GatedSession()
    models = steered_manager(SteeredLoader(session))
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
    await asyncio.wait_for(draining, 20)
    await models.close()
    assert session.closed


@pytest.mark.parametrize("mode", [ControlMode.EXPLICIT, ControlMode.POLL])
async def test_draining_waits_for_what_loads_and_can_be_given_up(tmp_path: Path, mode: ControlMode) -> None:
    """Or an exit would wait for a load without end, though its time is limited."""
    loader = SteeredLoader()
    models = steered_manager(loader, tmp_path, mode=mode, poll_secs=0.001)
    await models.start()
    loader.gate.clear()
    add_folders(tmp_path, "m/1")
    load = asyncio.create_task(models.load("m")) if mode is ControlMode.EXPLICIT else None
    await asyncio.to_thread(loader.began.acquire)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(models.drain(), 0.01)
    loader.gate.set()
    await asyncio.wait_for(models.drain(), 20)
    assert models.is_ready("m", 1)  # giving up has interrupted nothing
    if load is not None:
        await load
    await models.close()


@pytest.mark.parametrize(
    ("mode", "load_models", "ready"),
    [
        (ControlMode.NONE, (), ["a", "b"]),
        (ControlMode.POLL, (), ["a", "b"]),
        (ControlMode.EXPLICIT, (), []),
        (ControlMode.EXPLICIT, ("b", "b"), ["b"]),
        (ControlMode.EXPLICIT, ("*",), ["a", "b"]),
    ],
)
async def test_the_mode_says_what_is_loaded_at_start(
    tmp_path: Path, mode: ControlMode, load_models: tuple[str, ...], ready: list[str]
) -> None:
    add_folders(tmp_path, "a/1", "b/1")
    loader = SteeredLoader()
    models = steered_manager(loader, tmp_path, mode=mode)
    await models.start(load_models)
    assert [name for name in models.model_names() if models.is_ready(name, 1)] == ready
    assert loader.loads == {f"{name}/1": 1 for name in ready}
    assert models.all_ready()  # what nobody asked for counts for nothing
    entries = await models.index()
    assert [(entry.name, entry.version) for entry in entries] == [
        (name, 1 if name in ready else None) for name in ("a", "b")
    ]
    await models.close()


async def test_a_model_to_load_at_start_that_is_not_there_fails_like_any_other(tmp_path: Path) -> None:
    add_folders(tmp_path, "a/1")
    models = steered_manager(SteeredLoader(), tmp_path)
    with capture_logs() as lines:
        await models.start(["a", "aa"])
    assert models.is_ready("a", 1)
    assert not models.all_ready()
    (line,) = [line for line in lines if line["event"] == "model refused"]
    assert line["reason"] == f"--load-model=aa: there is no such folder in {tmp_path}; did you mean a?"
    assert line["who"] == "operator"
    assert [entry.name for entry in await models.index()] == ["a"]
    await models.close()


@pytest.mark.parametrize("mode", [ControlMode.NONE, ControlMode.POLL])
async def test_models_to_load_at_start_need_mode_explicit(tmp_path: Path, mode: ControlMode) -> None:
    models = steered_manager(SteeredLoader(), tmp_path, mode=mode)
    with pytest.raises(InvalidArgumentError, match="--load-model=a needs --model-control-mode=explicit"):
        await models.start(["a"])
    await models.close()


async def test_a_model_in_two_repositories_is_refused_with_tritons_reason(tmp_path: Path) -> None:
    add_folders(tmp_path, "one/m/1", "two/m/1", "two/n/1")
    models = steered_manager(SteeredLoader(), tmp_path / "one", tmp_path / "two", mode=ControlMode.NONE)
    await models.start()
    assert not models.all_ready()
    first, second = await models.index()
    assert (first.name, first.version, first.state, first.reason) == (
        "m",
        None,
        ReadyState.UNAVAILABLE,
        DUPLICATE,
    )
    assert (second.name, second.state) == ("n", ReadyState.READY)
    assert [entry.name for entry in await models.index(ready_only=True)] == ["n"]
    await models.close()


async def test_closing_ends_what_waits_and_waits_for_what_loads(tmp_path: Path) -> None:
    add_folders(tmp_path, "m/1", "n/1")
    session = GatedSession()
    loader = SteeredLoader(session)
    models = steered_manager(loader, tmp_path)
    await models.start(["m"])
    answers = [models.acquire("m", None).submit(request(1)) for _ in range(2)]
    await session.run_began()
    loader.gate.clear()
    loading = asyncio.create_task(models.load("n"))
    await asyncio.to_thread(loader.began.acquire)  # the load of m
    await asyncio.to_thread(loader.began.acquire)
    closing = asyncio.create_task(models.close())
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="the server stops"):
        await models.load("m")
    loader.gate.set()
    session.open()
    await asyncio.wait_for(closing, 20)
    await loading
    assert not models.is_ready("m", 1)
    assert not models.is_ready("n", 1)
    outcomes = await asyncio.gather(*answers, return_exceptions=True)
    assert all(isinstance(each, UnavailableError) or each.outputs for each in outcomes)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "policy"),
    [
        (doubling_config(dynamic_batching=None), BatchPolicy()),
        (doubling_config(max_batch_size=0), BatchPolicy()),
        (doubling_config(), BatchPolicy(4, (4,), 0)),
        (doubling_config(dynamic_batching=DynamicBatching((4, 2), 100)), BatchPolicy(4, (2, 4), 100_000)),
    ],
)
def test_requests_merge_only_as_the_config_says(model: ModelConfig, policy: BatchPolicy) -> None:
    assert batch_policy(model) == policy
