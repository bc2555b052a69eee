"""How far ensembles may lie in each other, whatever the order in which they come."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from support.ensembles import ensemble_config, step
from support.model_control import SteeredLoader, add_folders, doubling_config, steered_manager, touch

from naiad.config.ensemble_checks import MAX_NESTING
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.lifecycle.manager import ModelManager


def around(name: str, model: str, times: int = 1) -> ModelConfig:
    """An ensemble that runs another one, or the model `leaf`, one time after the other."""
    reads, writes = ("INPUT0", "OUTPUT0") if model == "leaf" else ("given", "end")
    names = ["given", *(f"t{index}" for index in range(1, times)), "end"]
    steps = [step(model, {reads: names[index]}, {writes: names[index + 1]}) for index in range(times)]
    return ensemble_config(name, ("given",), ("end",), *steps)


@pytest.fixture
def loader() -> SteeredLoader:
    """`e00` to `e39`, each around the next one, and the last one around `leaf`."""
    loader = SteeredLoader()
    names = [*(f"e{number:02}" for number in range(40)), "leaf"]
    loader.configs = {name: around(name, below) for name, below in pairwise(names)}
    return loader


@pytest_asyncio.fixture
async def models(tmp_path: Path, loader: SteeredLoader) -> AsyncIterator[ModelManager]:
    add_folders(tmp_path, "leaf/1", *(f"{name}/1" for name in loader.configs))
    manager = steered_manager(loader, tmp_path)
    yield manager
    await manager.close()


def ready(models: ModelManager) -> list[str]:
    return [name for name in models.model_names() if models.is_ready(name, None)]


@pytest.mark.parametrize("first", ["e39", "e00"])
async def test_what_is_nested_too_deep_waits_and_the_rest_serves(models: ModelManager, first: str) -> None:
    """Whether they come from the innermost on, or each before what it needs."""
    if first == "e39":
        for number in reversed(range(40 - MAX_NESTING, 40)):
            await models.load(f"e{number:02}")
    with pytest.raises(
        InvalidArgumentError, match=r"'e07' has ensembles nested 33 deep, at most 32 are served"
    ):
        await models.load("e07")
    with pytest.raises(InvalidArgumentError, match="'e00' depends on 'e01' which is not valid"):
        await models.load("e00")
    assert ready(models) == [*(f"e{number:02}" for number in range(8, 40)), "leaf"]


async def test_what_grows_from_below_takes_the_outermost_out_of_service(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    """The ensembles between keep their versions; only what is in them has changed."""
    await models.load("e08")
    add_folders(tmp_path, "new/1")
    loader.configs["new"] = doubling_config("new")
    loader.configs["leaf"] = ensemble_config(
        "leaf", ("INPUT0",), ("OUTPUT0",), step("new", {"INPUT0": "INPUT0"}, {"OUTPUT0": "OUTPUT0"})
    )
    touch(tmp_path / "leaf" / "config.pbtxt")
    await models.load("leaf")
    assert "e08" not in ready(models)
    assert {"e09", "leaf", "new"} <= set(ready(models))
    (entry,) = [entry for entry in await models.index() if entry.name == "e08"]
    assert str(entry.reason) == "ensemble 'e08' has ensembles nested 33 deep, at most 32 are served"
    loader.configs["leaf"] = doubling_config("leaf")
    touch(tmp_path / "leaf" / "config.pbtxt")
    await models.load("leaf")
    assert "e08" in ready(models), "it comes back by itself"


async def test_ensembles_that_multiply_are_refused_by_the_steps_in_all(
    models: ModelManager, loader: SteeredLoader, tmp_path: Path
) -> None:
    loader.configs = {"a": around("a", "leaf", 10), "b": around("b", "a", 10), "c": around("c", "b", 10)}
    loader.configs["d"] = around("d", "c", 2)
    add_folders(tmp_path, *(f"{name}/1" for name in "abcd"))
    await models.load("c")
    with pytest.raises(InvalidArgumentError, match=r"'d' has 2000 steps, those of the ensembles in it incl"):
        await models.load("d")
