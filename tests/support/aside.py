"""Versions of tiny models for the process aside, and somebody who is told what comes of its jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from support.onnx_models import add_sub, looping
from support.repositories import add_model

from naiad.config.reader import read_model_config
from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside import AsideProcess, AsideSettings, ShadowJob
from naiad.repository.layout import read_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import onnx

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array
    from naiad.lifecycle.experiments.aside import AsideResult
    from naiad.repository.layout import ModelFolder

AMPLE = AsideSettings(budget_cpus=8, max_jobs_per_s=1e6, backoff_s=(0.001, 0.001), is_idle=False)
"""No waiting for the budget, the rate, a new start, or the tests that run beside."""

LOOPING_CONFIG = "max_batch_size: 4"
Result = TypeVar("Result")


def written(
    root: Path, name: str, versions: Mapping[int, onnx.ModelProto | bytes], config: str
) -> tuple[ModelFolder, ModelConfig]:
    """A model's folder as it was written, and its config, not completed."""
    path = add_model(root, name, versions, config)
    return read_folder(path), read_model_config(path)


class Aside:
    """A process aside with the model `m` open, whose versions 1 and 2 add and subtract, and `loop`, which loops.

    A context manager.
    """

    def __init__(self, root: Path, settings: AsideSettings = AMPLE) -> None:
        self.process = AsideProcess(settings)
        config = "max_batch_size: 8"
        self.add = written(root, "m", {1: add_sub(), 2: add_sub()}, config)
        self.loop = written(root, "loop", {2: looping()}, LOOPING_CONFIG)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.close()

    async def open(self, name: str = "m", version: int = 2) -> AsideResult:
        """Open a version and wait for it."""
        told = Told()
        folder, config = self.add if name == "m" else self.loop
        self.process.open_model(ModelKey(name, version), folder, config, done=told)
        return await told.next()

    async def ask(self, job: ShadowJob) -> AsideResult:
        """What comes of a job."""
        told = Told()
        assert self.process.submit(job, told)
        return await told.next()


class Told:
    """Is told results and keeps them in order."""

    def __init__(self) -> None:
        self.results: list[AsideResult] = []
        self._queue: asyncio.Queue[AsideResult] = asyncio.Queue()

    def __call__(self, result: AsideResult) -> None:
        self.results.append(result)
        self._queue.put_nowait(result)

    async def next(self) -> AsideResult:
        """The next one."""
        async with asyncio.timeout(30):
            return await self._queue.get()


def of_kind(result: object, kind: type[Result]) -> Result:
    """The result, which must be of a kind."""
    assert isinstance(result, kind), result
    return result


def adding(rows: int = 1, *, wrong: int = 0) -> ShadowJob:
    """A job for `m`, on which both versions agree but for `wrong` of the sums."""
    left = np.arange(16 * rows, dtype=np.int32).reshape(rows, 16)
    right = np.full((rows, 16), 3, np.int32)
    total = left + right
    total.reshape(-1)[:wrong] += 1
    return ShadowJob(
        "m", 1, 2, {"INPUT0": left, "INPUT1": right}, {"OUTPUT0": total, "OUTPUT1": left - right}
    )


def running(turns: int, rows: int = 1) -> ShadowJob:
    """A job for `loop` that takes so many turns; its answer is right only for none."""
    value = np.zeros((rows, 1), np.float32)
    inputs: dict[str, Array] = {"INPUT0": value, "COUNT": np.full((1, 1), turns, np.int64)}
    return ShadowJob("loop", 1, 2, inputs, {"OUTPUT0": value})


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop to others until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what other processes do has no event
            await asyncio.sleep(0.002)
