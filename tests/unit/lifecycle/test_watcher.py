"""The watcher tells of what the system tells: below links too, and again where a folder took another's place."""

from __future__ import annotations

import asyncio
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import watchfiles
from structlog.testing import capture_logs

from naiad.lifecycle.watcher import Watcher
from naiad.repository.places import read_places

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Changes:
    """Counts what it is told, and waits for more."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def one(self) -> None:
        async with asyncio.timeout(20):
            await self.told.wait()
        self.told.clear()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest_asyncio.fixture
async def watcher(changes: Changes) -> AsyncIterator[Watcher]:
    watching = Watcher(changes.told.set)
    yield watching
    await watching.close()


async def test_a_change_anywhere_below_is_told(watcher: Watcher, changes: Changes, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "models", tmp_path / "store"
    (root / "m" / "1").mkdir(parents=True)
    (elsewhere / "1").mkdir(parents=True)
    (root / "linked").symlink_to(elsewhere)
    await watcher.watch(read_places([root]))
    await changes.one()  # it watches: one look finds what changed before
    for path in (root / "m" / "1" / "a", elsewhere / "1" / "b", root / "c"):
        path.write_text("x")
        await changes.one()
    (root / "n").mkdir()
    await changes.one()
    (root / "n" / "d").write_text("x")
    await changes.one()


async def watching_ended(watcher: Watcher) -> None:
    assert watcher._task is not None
    async with asyncio.timeout(20):
        await watcher._task


async def test_a_folder_that_went_is_watched_again_when_it_is_back(
    watcher: Watcher, changes: Changes, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    root.mkdir()
    places = read_places([root])
    await watcher.watch(places)
    await changes.one()
    shutil.rmtree(root)
    await changes.one()
    await watching_ended(watcher)
    await watcher.watch(places)  # it is not there: nothing to watch, and nothing wrong
    await watching_ended(watcher)
    root.mkdir()
    await watcher.watch(places)  # on the same inode, maybe
    await changes.one()
    (root / "a").write_text("x")
    await changes.one()


async def test_a_link_that_leads_elsewhere_is_watched_there(
    watcher: Watcher, changes: Changes, tmp_path: Path
) -> None:
    for name in ("models", "blue", "green"):
        (tmp_path / name).mkdir()
    link = tmp_path / "models" / "m"
    link.symlink_to(tmp_path / "blue")
    await watcher.watch(read_places([tmp_path / "models"]))
    await changes.one()
    link.unlink()
    await changes.one()
    link.symlink_to(tmp_path / "green")
    await watcher.watch(read_places([tmp_path / "models"]))
    await changes.one()
    changes.told.clear()
    (tmp_path / "green" / "a").write_text("x")
    await changes.one()


async def test_a_system_that_cannot_watch_is_one_warning(
    watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose limit of watches is reached."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", refuse)
    with capture_logs() as lines:
        for _ in range(3):
            await watcher.watch(read_places([tmp_path]))
            await watching_ended(watcher)
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("repositories are not watched", "OS file watch limit reached")
    ]


async def test_closing_joins_the_thread(tmp_path: Path) -> None:
    watcher = Watcher(lambda: None)
    await watcher.watch(read_places([tmp_path]))
    await watcher.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("naiad-watch")]
