"""Loading and unloading on request: beside what serves, all or nothing, one model at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from support.model_control import SteeredLoader, add_folders, doubling_config, steered_manager, touch
from support.sessions import DoublingSession, GatedSession

from naiad.config.model_config import ModelConfig, VersionPolicy, VersionPolicyKind
from naiad.core.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from naiad.core.tensors import InferRequest
from naiad.lifecycle import works
from naiad.lifecycle.control import ControlMode, LoadOverride
from naiad.lifecycle.states import ReadyState
from naiad.runtime.warmup import WarmupReport, WarmupRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.lifecycle.loading import LoadedModel
    from naiad.lifecycle.manager import ModelManager
    from naiad.repository.layout import ModelFolder

POLL_FAILURE = "failed to load '{}', failed to poll from model repository"


@pytest.fixture
def loader() -> SteeredLoader:
    return SteeredLoader()


@pytest_asyncio.fixture
async def models(tmp_path: Path, loader: SteeredLoader) -> AsyncIterator[ModelManager]:
    """Models m (versions 1 and 2) and n (version 1), none loaded."""
    add_folders(tmp_path, "m/1", "m/2", "n/1")
    manager = steered_manager(loader, tmp_path)
    yield manager
    loader.gate.set()
    await manager.close()


async def answer(models: ModelManager, version: int | None = None) -> float:
    with models.acquire("m", version) as handle:
        response = await handle.submit(InferRequest("m", None, {"INPUT0": np.full((1, 2), 3, np.float32)}))
    return float(response.outputs["OUTPUT0"][0, 0])


async def rows(models: ModelManager, name: str = "m") -> dict[int | None, tuple[str, str]]:
    return {
        entry.version: (entry.state.value if entry.state else "", str(entry.reason))
        for entry in await models.index()
        if entry.name == name
    }


async def until_unloaded(models: ModelManager, number: int, name: str = "m") -> None:
    """Wait until a version has gone from UNLOADING to UNAVAILABLE."""
    changed = asyncio.Event()
    models.on_state = changed.set
    async with asyncio.timeout(20):
        while (await rows(models, name))[number][0] == "UNLOADING":
            await changed.wait()
            changed.clear()


async def test_a_loaded_model_is_loaded_anew_only_if_it_changed(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    await models.load("m")
    await models.load("m")
    assert loader.loads == {"m/1": 1, "m/2": 1}
    touch(tmp_path / "m" / "2" / "model.onnx")
    kept = models.ready_versions("m")[0]
    await models.load("m")
    assert loader.loads == {"m/1": 1, "m/2": 2}
    assert models.ready_versions("m")[0] is kept


async def test_statistics_restart_with_a_reload_and_stay_with_a_kept_version(
    models: ModelManager, tmp_path: Path
) -> None:
    await models.load("m")
    assert await answer(models, 1) == await answer(models, 2) == 6
    touch(tmp_path / "m" / "2")
    await models.load("m")
    assert [each.statistics.inference_count for each in models.ready_versions("m")] == [1, 0]


async def test_a_failed_reload_leaves_the_old_versions_serving(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    """All or nothing: version 2 would load, and is thrown away with the broken version 1."""
    await models.load("m")
    old = loader.latest.copy()
    loader.broken["m/1"] = InvalidArgumentError("bad graph")
    touch(tmp_path / "m" / "1")
    touch(tmp_path / "m" / "2")
    with pytest.raises(InvalidArgumentError) as raised:
        await models.load("m")
    assert str(raised.value) == (
        "load failed for model 'm': version 1 is at UNAVAILABLE state: Invalid argument: bad graph;\n"
    )
    assert await rows(models) == {1: ("READY", ""), 2: ("READY", "")}
    assert models.all_ready()
    assert await answer(models, 1) == 6
    assert old["m/1"].batches
    assert not old["m/2"].closed
    assert loader.latest["m/2"].closed
    del loader.broken["m/1"]
    await models.load("m")  # the failure is forgotten, the change is not
    assert loader.loads == {"m/1": 3, "m/2": 3}


async def test_a_new_version_that_fails_is_shown_until_it_is_gone(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    await models.load("m")
    add_folders(tmp_path, "m/3")
    touch(tmp_path / "m")
    loader.broken["m/3"] = UnavailableError("no file")
    with pytest.raises(InvalidArgumentError, match=r"version 3 .* Unavailable: no file;\n$"):
        await models.load("m")
    assert await rows(models) == {1: ("READY", ""), 2: ("READY", ""), 3: ("UNAVAILABLE", "no file")}
    assert not models.all_ready()
    (tmp_path / "m" / "3").rmdir()
    touch(tmp_path / "m")
    await models.load("m")
    assert await rows(models) == {1: ("READY", ""), 2: ("READY", "")}
    assert models.all_ready()


async def test_requests_go_to_the_old_version_until_the_new_one_is_ready(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    await models.load("m")
    old = loader.latest["m/2"]
    loader.gate.clear()
    touch(tmp_path / "m" / "2")
    for _ in range(2):
        loader.began.acquire(blocking=False)  # the loads from before
    loading = asyncio.create_task(models.load("m"))
    await asyncio.to_thread(loader.began.acquire)
    assert (await rows(models))[2] == ("READY", "")
    assert await answer(models) == 6
    assert old.batches
    loader.gate.set()
    await loading
    assert await answer(models) == 6
    assert loader.latest["m/2"].batches == [1]


async def test_what_the_old_version_accepted_is_answered_by_it(tmp_path: Path) -> None:
    add_folders(tmp_path, "m/1")
    gated = GatedSession()
    loader = SteeredLoader(gated)
    models = steered_manager(loader, tmp_path)
    await models.load("m")
    accepted = asyncio.create_task(answer(models))
    await gated.run_began()
    loader._session = DoublingSession()
    touch(tmp_path / "m" / "1")
    await models.load("m")
    assert await answer(models) == 6
    assert not accepted.done()
    assert not gated.closed
    gated.open()
    assert await accepted == 6
    await models.close()
    assert gated.closed


async def test_an_unload_refuses_at_once_and_answers_what_was_accepted(tmp_path: Path) -> None:
    """It returns before that is done; a handle taken before may still be used."""
    add_folders(tmp_path, "m/1")
    gated = GatedSession()
    models = steered_manager(SteeredLoader(gated), tmp_path)
    await models.load("m")
    accepted = asyncio.create_task(answer(models))
    await gated.run_began()
    handle = models.acquire("m", None)
    await models.unload("m")
    assert await rows(models) == {1: ("UNLOADING", "")}
    with pytest.raises(NotFoundError) as not_found:
        models.acquire("m", None)
    assert str(not_found.value) == "Request for unknown model: 'm' has no available versions"
    with pytest.raises(UnavailableError) as unavailable:
        models.acquire("m", 1)
    assert str(unavailable.value) == "Request for unknown model: 'm' version 1 is not at ready state"
    late = handle.submit(InferRequest("m", None, {"INPUT0": np.ones((1, 2), np.float32)}))
    gated.open()
    assert await accepted == 6
    assert (await late).outputs["OUTPUT0"].tolist() == [[2, 2]]
    assert (await rows(models))[1][0] == "UNLOADING"
    handle.release()
    await until_unloaded(models, 1)
    assert await rows(models) == {1: ("UNAVAILABLE", "unloaded")}
    assert models.all_ready()
    await models.unload("m")
    await models.close()
    assert gated.closed


async def test_a_model_can_be_loaded_while_it_still_unloads(tmp_path: Path) -> None:
    add_folders(tmp_path, "m/1")
    gated = GatedSession()
    loader = SteeredLoader(gated)
    models = steered_manager(loader, tmp_path)
    await models.load("m")
    accepted = asyncio.create_task(answer(models))
    await gated.run_began()
    await models.unload("m")
    loader._session = DoublingSession()
    await models.load("m")
    assert await answer(models) == 6
    gated.open()
    assert await accepted == 6
    assert await rows(models) == {1: ("READY", "")}
    await models.close()


async def test_unloading_what_is_not_there_is_fine(models: ModelManager) -> None:
    for name in ("nope", "", "..", "a/b", "m"):
        await models.unload(name, dependents=True)
    assert models.model_names() == []


async def test_unloading_a_model_that_failed_makes_the_server_ready_again(
    models: ModelManager, loader: SteeredLoader
) -> None:
    loader.broken["m/1"] = InternalError("boom")
    with pytest.raises(InvalidArgumentError, match="Internal: boom"):
        await models.load("m")
    assert not models.all_ready()
    await models.unload("m")
    assert models.all_ready()


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("nope", None),
        (".", None),
        ("x" * 300, None),
        ("m", LoadOverride("wrong")),
        ("m", LoadOverride(None, {"1/model.onnx": b"x"})),
        ("m", LoadOverride("{}", {"../x": b"x"})),
        ("m", LoadOverride("{}", {"A" * 256: b"x"})),
        (".", LoadOverride("{}", {"1/model.onnx": b"x"})),
        ("x" * 300, LoadOverride("{}", {"1/model.onnx": b"x"})),
    ],
)
async def test_an_early_failure_is_one_sentence_and_the_reason_is_in_the_log(
    models: ModelManager, name: str, override: LoadOverride | None
) -> None:
    await models.load("m")
    with capture_logs() as log, pytest.raises(InternalError) as raised:
        await models.load(name, override)
    assert str(raised.value) == POLL_FAILURE.format(name)
    assert [(line["model"], bool(line["reason"])) for line in log] == [(name, True)]
    assert models.model_names() == ["m"]
    assert models.all_ready()
    assert await answer(models) == 6


async def test_a_broken_config_is_an_early_failure(models: ModelManager, loader: SteeredLoader) -> None:
    loader.broken["m"] = InvalidArgumentError("no such field")
    with pytest.raises(InternalError, match="failed to poll"):
        await models.load("m")
    assert await rows(models) == {None: ("", "")}


async def test_names_and_modes_are_checked_first(models: ModelManager, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="Model name cannot be empty"):
        await models.load("  ")
    with pytest.raises(InvalidArgumentError, match="must not contain path traversal characters"):
        await models.load("../m")
    for mode in (ControlMode.NONE, ControlMode.POLL):
        other = steered_manager(SteeredLoader(), tmp_path, mode=mode)
        for call in (other.load, other.unload):
            with pytest.raises(UnavailableError, match="explicit model load / unload is not allowed"):
                await call("")
        await other.close()


async def test_a_version_policy_that_selects_nothing_is_told(
    models: ModelManager, loader: SteeredLoader
) -> None:
    """Triton's index has no line for such a model, and readiness counts it."""
    policy = VersionPolicy(VersionPolicyKind.SPECIFIC, versions=(7,))
    loader.configs["m"] = doubling_config(version_policy=policy)
    with pytest.raises(InvalidArgumentError) as raised:
        await models.load("m")
    assert str(raised.value) == (
        "load failed for model 'm': at least one version must be available under the version policy of "
        "model 'm'\n"
    )
    assert await rows(models) == {}
    assert not models.all_ready()
    loader.configs.clear()
    await models.load("m")
    assert models.all_ready()


async def test_a_version_that_the_policy_no_longer_selects_is_unloaded(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    await models.load("m")
    loader.configs["m"] = doubling_config(version_policy=VersionPolicy())
    touch(tmp_path / "m" / "config.pbtxt")
    await models.load("m")
    await until_unloaded(models, 1)
    assert await rows(models) == {1: ("UNAVAILABLE", "unloaded"), 2: ("READY", "")}


async def test_a_config_override_stays_until_the_folder_changes_or_the_model_is_unloaded(
    models: ModelManager, loader: SteeredLoader
) -> None:
    """As recorded from a Triton: a load of what has not changed does nothing."""
    await models.load("m", LoadOverride("mine"))
    await models.load("m")
    assert models.ready_versions("m")[0].config.parameters == {"override": "mine"}
    assert loader.loads["m/1"] == 1
    await models.unload("m")
    await models.load("m")
    assert models.ready_versions("m")[0].config.parameters == {}


async def test_files_of_a_request_make_a_model_of_their_own(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    """No repository file is seen, a new name works and is in no index, and nothing stays on the disk."""
    await models.load("m")
    for name in ("m", "brand new"):
        await models.load(name, LoadOverride("{}", {"7/model.onnx": b"x"}))
        path, files = loader.seen[name]
        assert files == ["7", "model.onnx"]
        assert not path.parent.exists()
        assert models.is_ready(name, 7)
    assert not models.is_ready("m", 1)
    assert {entry.name for entry in await models.index()} == {"m", "n"}
    await models.unload("brand new")
    assert not models.is_ready("brand new", None)
    with pytest.raises(InternalError):
        await models.load("brand new")
    await models.load("m")
    assert [each.key.version for each in models.ready_versions("m")] == [1, 2]
    assert not models.is_ready("m", 7)


async def test_loads_of_one_model_come_one_after_the_other_and_of_two_at_once(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    (tmp_path / "m" / "2").rmdir()
    loader.gate.clear()
    loads = [asyncio.create_task(models.load(name)) for name in ("m", "m", "n")]
    for _ in range(2):
        await asyncio.to_thread(loader.began.acquire)  # m and n, while both wait
    assert loader.loads == {"m/1": 1, "n/1": 1}
    loader.gate.set()
    await asyncio.gather(*loads)
    assert loader.loads == {"m/1": 1, "n/1": 1}  # the second of m found nothing to do


async def test_a_load_goes_on_when_its_caller_leaves(models: ModelManager, loader: SteeredLoader) -> None:
    loader.gate.clear()
    load = asyncio.create_task(models.load("n"))
    await asyncio.to_thread(loader.began.acquire)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    loader.gate.set()
    await models.load("n")  # waits for it
    assert models.is_ready("n", 1)
    assert loader.loads == {"n/1": 1}


async def test_a_load_that_still_waits_is_given_up_with_its_caller(
    models: ModelManager, loader: SteeredLoader
) -> None:
    """Or callers that leave at once would pile up the files of their requests behind one slow load."""
    loader.gate.clear()
    first = asyncio.create_task(models.load("n"))
    await asyncio.to_thread(loader.began.acquire)
    override = LoadOverride("{}", {"1/model.onnx": b"x"})
    waiting = [asyncio.create_task(models.load("n", override)) for _ in range(3)]
    await asyncio.sleep(0)
    for load in waiting:
        load.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    loader.gate.set()
    await first
    await models.unload("n")  # comes after whatever still waits
    assert loader.loads == {"n/1": 1}


async def test_loads_that_wait_are_bounded(
    models: ModelManager, loader: SteeredLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds the files of its request; the error says how many there are and may be."""
    monkeypatch.setattr(works, "MAX_WORKS", 2)
    loader.gate.clear()
    loads = [asyncio.create_task(models.load("n")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="2 loads and unloads are at work or wait, 2 may: try again"):
        await models.load("n")
    loader.gate.set()
    await asyncio.gather(*loads)
    await models.load("n")


async def test_an_error_of_a_request_s_files_does_not_tell_where_they_lay(
    models: ModelManager, loader: SteeredLoader
) -> None:
    def refuse(folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        raise InternalError(f"Load model from {folder.path}/1/model.onnx failed")

    loader.load = refuse  # type: ignore[method-assign]
    with pytest.raises(InvalidArgumentError, match="Load model from guest/1/model.onnx failed"):
        await models.load("guest", LoadOverride("{}", {"1/model.onnx": b"x"}))


async def test_a_model_that_came_with_a_request_is_forgotten_when_it_leaves(models: ModelManager) -> None:
    """Names are the caller's: they must not pile up."""
    for number in range(3):
        await models.load(f"guest{number}", LoadOverride("{}", {"1/model.onnx": b"x"}))
        assert models.is_ready(f"guest{number}", 1)
        await models.unload(f"guest{number}")
    await models.close()
    assert not any(name.startswith("guest") for name in models.model_names())


async def test_files_of_loads_at_work_can_be_removed_before_a_hard_exit(
    models: ModelManager, loader: SteeredLoader
) -> None:
    loader.gate.clear()
    load = asyncio.create_task(models.load("guest", LoadOverride("{}", {"1/model.onnx": b"x"})))
    await asyncio.to_thread(loader.began.acquire)
    path, _ = loader.seen["guest"]
    assert path.exists()
    models.discard_files()
    assert not path.exists()
    loader.gate.set()
    await load


async def test_a_failed_load_is_tried_again_as_often_as_the_server_is_told(tmp_path: Path) -> None:
    add_folders(tmp_path, "m/1")
    loader = SteeredLoader()
    loader.broken["m/1"] = InternalError("boom")
    models = steered_manager(loader, tmp_path, load_retries=2)
    with pytest.raises(InvalidArgumentError, match="boom"):
        await models.load("m")
    assert loader.loads == {"m/1": 3}
    await models.close()


async def test_states_go_through_loading(models: ModelManager, loader: SteeredLoader) -> None:
    loader.gate.clear()
    load = asyncio.create_task(models.load("n"))
    await asyncio.to_thread(loader.began.acquire)
    assert await rows(models, "n") == {1: (ReadyState.LOADING.value, "")}
    loader.gate.set()
    await load
    assert await rows(models, "n") == {1: ("READY", "")}


async def test_locks_of_names_that_callers_made_up_are_not_kept(models: ModelManager) -> None:
    for number in range(50):
        with pytest.raises(InternalError):
            await models.load(f"nope{number}")
    assert len(models._works._locks) <= 1


async def test_closing_ends_an_unload_that_still_waits_for_a_handle(tmp_path: Path) -> None:
    add_folders(tmp_path, "m/1")
    loader = SteeredLoader()
    models = steered_manager(loader, tmp_path)
    await models.load("m")
    handle = models.acquire("m", None)
    await models.unload("m")
    await asyncio.wait_for(models.close(), 20)
    assert loader.latest["m/1"].closed
    handle.release()


async def test_a_new_version_with_another_interface_is_refused_unless_that_is_allowed(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    """A config that changes under the same number is its owner's word, as in Triton."""
    await models.load("m")
    smaller = doubling_config(max_batch_size=2)
    loader.completed["m/3"] = smaller
    add_folders(tmp_path, "m/3")
    with pytest.raises(InvalidArgumentError, match=r"version 3 .* max_batch_size is 2, was 4"):
        await models.load("m")
    assert await rows(models) | {3: ("UNAVAILABLE", "")} == {
        1: ("READY", ""),
        2: ("READY", ""),
        3: ("UNAVAILABLE", ""),
    }
    assert "another interface than version 2" in (await rows(models))[3][1]
    assert loader.latest["m/3"].closed
    loader.completed["m/3"] = doubling_config(
        max_batch_size=2, parameters={"naiad.allow_interface_change": "true"}
    )
    with capture_logs() as log:
        await models.load("m")
    assert [line["detail"] for line in log if line["event"] == "interface changes"] == [
        "max_batch_size is 2, was 4"
    ]
    loader.configs["m"] = doubling_config(max_batch_size=1)
    loader.completed.clear()
    touch(tmp_path / "m" / "config.pbtxt")
    await models.load("m")
    assert [each.config.max_batch_size for each in models.ready_versions("m")] == [1, 1, 1]


async def test_a_server_may_allow_every_interface(tmp_path: Path) -> None:
    add_folders(tmp_path, "m/1")
    loader = SteeredLoader()
    models = steered_manager(loader, tmp_path, allow_interface_change=True)
    await models.load("m")
    add_folders(tmp_path, "m/2")
    loader.completed["m/2"] = doubling_config(max_batch_size=2)
    await models.load("m")
    assert models.is_ready("m", 2)
    await models.close()


async def test_what_a_request_brings_along_may_have_any_interface(
    models: ModelManager, loader: SteeredLoader
) -> None:
    await models.load("m")
    loader.completed["m/7"] = doubling_config(max_batch_size=1)
    await models.load("m", LoadOverride("{}", {"7/model.onnx": b"x"}))
    assert models.is_ready("m", 7)
    await models.load("m")  # and so may the way back
    assert models.is_ready("m", 1)


async def test_a_version_that_answers_nan_where_another_did_not_is_refused(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    """Where nothing serves it is a warning: zeros are honestly so to some graphs."""
    shapes = (("INPUT0", (1, 2)),)
    loader.warmups["n/1"] = WarmupReport((WarmupRun(1, shapes, 5, ("OUTPUT0",)),))
    loader.warmups["m/1"] = loader.warmups["m/2"] = WarmupReport((WarmupRun(1, shapes, 5),))
    with capture_logs() as log:
        await models.load("n")
    assert [line["model"] for line in log if line["event"] == "NaN or infinity at warm-up"] == ["n/1"]
    await models.load("m")
    loader.warmups["m/2"] = loader.warmups["n/1"]
    touch(tmp_path / "m" / "2")
    with pytest.raises(InvalidArgumentError, match="NaN or infinity in 'OUTPUT0', version 2, which serves"):
        await models.load("m")
    assert await rows(models) == {1: ("READY", ""), 2: ("READY", "")}
