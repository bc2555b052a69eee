"""Polling: what changed on the disk is followed, what broke is logged, what serves goes on."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from support.clock import FakeClock
from support.model_control import SteeredLoader, add_folders, steered_manager, touch

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.control import ControlMode
from naiad.lifecycle.poller import Poller
from naiad.repository.layout import DUPLICATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.lifecycle.manager import ModelManager

SECOND_US = 1_000_000


@pytest.fixture
def loader() -> SteeredLoader:
    return SteeredLoader()


@pytest_asyncio.fixture
async def models(tmp_path: Path, loader: SteeredLoader) -> AsyncIterator[ModelManager]:
    """Model m in repository one serves; polls are the test's to call."""
    add_folders(tmp_path, "one/m/1", "one/m/2", "two")
    manager = steered_manager(
        loader, tmp_path / "one", tmp_path / "two", mode=ControlMode.POLL, poll_secs=3_600
    )
    await manager.start()
    yield manager
    await manager.close()


def serving(models: ModelManager, name: str = "m") -> list[int]:
    return [each.key.version for each in models.ready_versions(name)]


async def test_a_poll_of_an_unchanged_repository_does_nothing(
    models: ModelManager, loader: SteeredLoader
) -> None:
    before = models.ready_versions("m")
    await models.poll()
    assert models.ready_versions("m") == before
    assert loader.loads == {"m/1": 1, "m/2": 1}


async def test_models_come_change_and_go(models: ModelManager, loader: SteeredLoader, tmp_path: Path) -> None:
    add_folders(tmp_path, "two/n/1")
    touch(tmp_path / "one" / "m" / "2")
    await models.poll()
    assert (serving(models), serving(models, "n")) == ([1, 2], [1])
    assert loader.loads == {"m/1": 1, "m/2": 2, "n/1": 1}
    shutil.rmtree(tmp_path / "two" / "n")
    await models.poll()
    assert (serving(models), serving(models, "n")) == ([1, 2], [])
    assert [entry.name for entry in await models.index(ready_only=True)] == ["m", "m"]
    assert models.all_ready()


async def test_a_new_folder_without_a_version_is_passed_over_until_it_has_one(
    models: ModelManager, tmp_path: Path
) -> None:
    """Somebody is copying it: the server is as ready as it was, and the model comes when it is there."""
    add_folders(tmp_path, "two/n")
    await models.poll()
    assert models.model_names() == ["m"]
    assert models.all_ready()
    add_folders(tmp_path, "two/n/1")
    touch(tmp_path / "two" / "n")
    await models.poll()
    assert serving(models, "n") == [1]


async def test_a_change_that_is_refused_is_remembered_until_it_is_mended(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    """What served goes on, so no probe tells; the next start of the server would fail."""
    (model,) = models.models()
    loader.broken["m/2"] = InvalidArgumentError("broken")
    touch(tmp_path / "one" / "m" / "2")
    await models.poll()
    assert serving(models) == [1, 2]
    assert (model.load_failures, "broken" in str(model.refused_change)) == (1, True)
    loader.broken = {"m": InvalidArgumentError("wrong config")}
    touch(tmp_path / "one" / "m" / "1")
    await models.poll()
    assert (model.load_failures, str(model.refused_change)) == (2, "wrong config")
    loader.broken = {}
    touch(tmp_path / "one" / "m" / "1")
    with capture_logs() as lines:
        await models.poll()
    assert model.refused_change is None
    assert "model serves what its folder holds again" in [line["event"] for line in lines]


async def test_a_version_whose_folder_is_gone_is_unloaded_and_a_new_one_is_loaded(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    (tmp_path / "one" / "m" / "1").rmdir()
    add_folders(tmp_path, "one/m/3")
    touch(tmp_path / "one" / "m")
    await models.poll()
    assert serving(models) == [2, 3]
    assert loader.loads == {"m/1": 1, "m/2": 1, "m/3": 1}


async def test_a_broken_config_is_only_logged_while_the_model_serves(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    loader.broken["m"] = InvalidArgumentError("no such field")
    touch(tmp_path / "one" / "m" / "config.pbtxt")
    with capture_logs() as log:
        await models.poll()
    assert [line["reason"] for line in log if line["log_level"] == "error"] == ["no such field"]
    assert serving(models) == [1, 2]
    assert models.all_ready()
    del loader.broken["m"]
    touch(tmp_path / "one" / "m" / "1")
    await models.poll()
    assert loader.loads == {"m/1": 2, "m/2": 1}


async def test_a_half_copied_version_is_tried_again_only_when_it_has_changed(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    add_folders(tmp_path, "one/m/3")
    touch(tmp_path / "one" / "m")
    loader.broken["m/3"] = InvalidArgumentError("cut short")
    for _ in range(2):
        await models.poll()
    assert loader.loads["m/3"] == 1
    assert serving(models) == [1, 2]
    del loader.broken["m/3"]
    touch(tmp_path / "one" / "m" / "3" / "model.onnx")
    await models.poll()
    assert serving(models) == [1, 2, 3]
    assert loader.loads == {"m/1": 1, "m/2": 1, "m/3": 2}


async def test_a_model_that_comes_up_twice_is_unloaded_until_one_is_gone(
    models: ModelManager, tmp_path: Path
) -> None:
    add_folders(tmp_path, "two/m/1")
    for _ in range(2):
        await models.poll()
        assert serving(models) == []
        assert not models.all_ready()
        [entry] = await models.index()
        assert (entry.name, entry.version, entry.reason) == ("m", None, DUPLICATE)
    shutil.rmtree(tmp_path / "one" / "m")
    await models.poll()
    assert serving(models) == [1]
    assert models.all_ready()


async def test_a_repository_that_is_gone_for_a_while_changes_nothing(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    (tmp_path / "one").rename(tmp_path / "away")
    with capture_logs() as log:
        await models.poll()
    assert [line["event"] for line in log] == ["cannot poll"]
    (tmp_path / "away").rename(tmp_path / "one")
    await models.poll()
    assert serving(models) == [1, 2]
    assert loader.loads == {"m/1": 1, "m/2": 1}


async def test_a_manager_in_mode_poll_looks_by_itself(tmp_path: Path) -> None:
    add_folders(tmp_path, "m/1")
    models = steered_manager(SteeredLoader(), tmp_path, mode=ControlMode.POLL, poll_secs=0.001)
    changed = asyncio.Event()
    models.on_state = changed.set
    await models.start()
    add_folders(tmp_path, "n/1")
    async with asyncio.timeout(20):
        while not models.is_ready("n", 1):
            changed.clear()
            await changed.wait()
    await models.close()


async def test_polling_goes_on_after_a_defect_and_ends_when_it_is_closed() -> None:
    looks: list[int] = []
    third = asyncio.Event()

    async def poll() -> None:
        looks.append(len(looks))
        if len(looks) == 3:
            third.set()
        raise RuntimeError("a bug")

    poller = Poller(poll, 0.001)
    poller._task = asyncio.create_task(poller._run())
    with capture_logs() as log:
        async with asyncio.timeout(20):
            await third.wait()
        await poller.close()
    assert [line["event"] for line in log][:2] == ["failed to poll"] * 2
    assert poller._task.done()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def quiet(tmp_path: Path, loader: SteeredLoader, clock: FakeClock) -> AsyncIterator[ModelManager]:
    """As `models`, with a quiet period of one second on a clock that the test moves."""
    add_folders(tmp_path, "one/m/1", "two")
    manager = steered_manager(
        loader,
        tmp_path / "one",
        tmp_path / "two",
        mode=ControlMode.POLL,
        poll_secs=3_600,
        quiet_secs=1.0,
        clock=clock,
    )
    await manager.start()
    yield manager
    await manager.close()


async def test_what_is_still_being_copied_is_not_loaded(
    quiet: ModelManager, loader: SteeredLoader, clock: FakeClock, tmp_path: Path
) -> None:
    """Each look that finds more of it waits for another second; then it is loaded once."""
    add_folders(tmp_path, "one/m/2", "two/n/1")
    for size in range(1, 4):
        (tmp_path / "one" / "m" / "2" / "model.onnx").write_bytes(b"x" * size)
        await quiet.poll()
        assert loader.loads == {"m/1": 1} | ({"n/1": 1} if size > 1 else {})  # others do not wait for it
        clock.advance_us(SECOND_US)
    await quiet.poll()
    assert serving(quiet) == [1, 2]
    assert loader.loads == {"m/1": 1, "n/1": 1, "m/2": 1}


async def test_files_from_the_future_do_not_block_and_hide_no_copying(
    quiet: ModelManager, loader: SteeredLoader, clock: FakeClock, tmp_path: Path
) -> None:
    """The latest time stays the same while the rest is copied, and is ahead of every clock here."""
    add_folders(tmp_path, "one/m/2")
    touch(tmp_path / "one" / "m" / "2" / "first")
    await quiet.poll()
    clock.advance_us(SECOND_US)
    (tmp_path / "one" / "m" / "2" / "second").write_bytes(b"x")
    await quiet.poll()
    assert serving(quiet) == [1]
    clock.advance_us(SECOND_US)
    await quiet.poll()
    assert serving(quiet) == [1, 2]


async def test_a_folder_that_goes_while_it_is_waited_for_is_forgotten(
    quiet: ModelManager, clock: FakeClock, tmp_path: Path
) -> None:
    add_folders(tmp_path, "two/n/1")
    await quiet.poll()
    shutil.rmtree(tmp_path / "two" / "n")
    clock.advance_us(SECOND_US)
    await quiet.poll()
    assert quiet.model_names() == ["m"]
    assert quiet._follower._poller._settling.due_ns is None


async def test_a_folder_that_has_settled_is_looked_at_without_waiting_for_the_next_full_poll(
    tmp_path: Path,
) -> None:
    """The first look is asked for, all others come by themselves: a poll would be an hour later."""
    add_folders(tmp_path, "m/1")
    models = steered_manager(
        SteeredLoader(), tmp_path, mode=ControlMode.POLL, poll_secs=3_600, quiet_secs=0.01
    )
    await models.start()
    add_folders(tmp_path, "n/1")
    models._follower._poller._woken.set()
    await until_ready(models, "n")
    await models.close()


async def test_a_change_is_seen_as_soon_as_the_system_tells(tmp_path: Path) -> None:
    """With a poll once an hour, and though the repository was another folder a moment ago."""
    root = tmp_path / "models"
    add_folders(root, "m/1")
    models = steered_manager(
        SteeredLoader(), root, mode=ControlMode.POLL, poll_secs=3_600, quiet_secs=0.01, watch=True
    )
    await models.start()
    add_folders(root, "n/1")
    await until_ready(models, "n")
    root.rename(tmp_path / "away")
    add_folders(root, "m/1", "n/1", "o/1")
    models._follower._poller._woken.set()
    await until_ready(models, "o")
    add_folders(root, "p/1")
    await until_ready(models, "p")
    await models.close()


async def until_ready(models: ModelManager, name: str) -> None:
    changed = asyncio.Event()
    models.on_state = changed.set
    async with asyncio.timeout(20):
        while not models.is_ready(name, 1):
            changed.clear()
            await changed.wait()


EXPERIMENT = '{{"weights": {{"1": {}, "2": 10}}}}'


async def test_an_experiment_that_comes_changes_or_goes_loads_no_version_anew(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    path = tmp_path / "one" / "m" / "experiment.json"
    for weight in (90, 50):
        path.write_text(EXPERIMENT.format(weight))
        touch(path)
        await models.poll()
    path.unlink()
    await models.poll()
    assert loader.loads == {"m/1": 1, "m/2": 1}
    assert serving(models) == [1, 2]


async def test_an_experiment_waits_with_the_version_that_it_brings(
    quiet: ModelManager, loader: SteeredLoader, clock: FakeClock, tmp_path: Path
) -> None:
    """Or its model would be loaded with a version that is half there."""
    (tmp_path / "one" / "m" / "experiment.json").write_text(EXPERIMENT.format(90))
    for size in range(1, 4):
        add_folders(tmp_path, f"one/m/2/part{size}")
        await quiet.poll()
        clock.advance_us(SECOND_US)
    assert loader.loads == {"m/1": 1}
    await quiet.poll()
    assert loader.loads == {"m/1": 1, "m/2": 1}


async def test_a_version_counts_once_it_holds_the_marker(loader: SteeredLoader, tmp_path: Path) -> None:
    """What is written into it before changes nothing about the others."""
    add_folders(tmp_path, "m/1")
    (tmp_path / "m" / "1" / ".ready").touch()
    models = steered_manager(loader, tmp_path, mode=ControlMode.POLL, poll_secs=3_600, ready_marker=".ready")
    await models.start()
    add_folders(tmp_path, "m/2")
    touch(tmp_path / "m" / "2" / "model.onnx")
    await models.poll()
    assert loader.loads == {"m/1": 1}
    (tmp_path / "m" / "2" / ".ready").touch()
    await models.poll()
    assert serving(models) == [1, 2]
    assert loader.loads == {"m/1": 1, "m/2": 1}
    await models.close()
