"""The reloads of a soak: what is done to which model, in an order that a seed decides."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.soak_models import WEIGHTS
from tritonclient.utils import InferenceServerException

from naiad.core.errors import InternalError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.soak_models import SoakModels

_OVERRIDE = json.dumps(
    {
        "max_batch_size": 4,
        "dynamic_batching": {},
        "input": [{"name": "INPUT", "data_type": "TYPE_FP32", "dims": [str(WEIGHTS)]}],
        "output": [{"name": "OUTPUT", "data_type": "TYPE_FP32", "dims": [str(WEIGHTS)]}],
    }
)
_FILE = "file:1/model.onnx"


@dataclass(frozen=True, slots=True)
class Reload:
    """One thing that is done: `kind` to `model`."""

    kind: str
    model: str

    def __str__(self) -> str:
        return f"{self.kind} {self.model}"


def reload_kinds(names: Sequence[str], only: Sequence[str] = ()) -> list[Reload]:
    """Everything that is done in a round to models of these names; with `only`, what has one of its texts.

    Raises:
        InvalidArgumentError: none does.
    """
    kinds = [
        *(Reload("again", name) for name in names),
        Reload("override", "dense"),
        Reload("version", "versions"),
        Reload("broken", "dense"),
    ]
    found = [each for each in kinds if not only or any(text in str(each) for text in only)]
    if not found:
        raise InvalidArgumentError(f"--only={only[0]}: expected part of one of {', '.join(map(str, kinds))}")
    return found


class Reloader:
    """Reloads models over the protocol; counts what it has done.

    - `again`: unload, then load.
    - `override`: a load with a config and a file of its own, then back to the one on the disk.
    - `version`: a new version's folder, a load that replaces the old one, and the old folder goes.
    - `broken`: a load with a file that is none, which must fail and leave nothing behind.
    """

    def __init__(self, client: Any, models: SoakModels, seed: int, only: Sequence[str] = ()) -> None:
        self._client = client
        self._models = models
        self._kinds = reload_kinds(models.names, only)
        self._random = random.Random(seed)
        self._left: list[Reload] = []
        self._version = 1
        self.done: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Reloads so far; an override counts twice, because it loads twice."""
        return self.done.total()

    async def step(self) -> Reload:
        """Do the next one.

        Raises:
            InternalError: a broken file was loaded.
            InferenceServerException: a load that must not fail did.
        """
        if not self._left:
            self._left = list(self._kinds)
            self._random.shuffle(self._left)
        chosen = self._left.pop()
        steps = {
            "again": self._again,
            "override": self._override,
            "version": self._next_version,
            "broken": self._broken,
        }
        await steps[chosen.kind](chosen.model)
        self.done[str(chosen)] += 2 if chosen.kind == "override" else 1
        return chosen

    async def _again(self, model: str) -> None:
        await self._client.unload_model(model)
        await self._client.load_model(model)
        # What an ensemble is composed of takes it out of service when it goes; this brings it back.
        if model == "add_sub":
            await self._client.load_model("ensemble")

    async def _override(self, model: str) -> None:
        await self._client.load_model(model, config=_OVERRIDE, files={_FILE: self._models.weights})
        await self._client.load_model(model)

    async def _next_version(self, model: str) -> None:
        folder = self._models.repository / model
        old, self._version = self._version, self._version + 1
        path = folder / str(self._version) / "model.onnx"
        path.parent.mkdir()
        path.write_bytes(self._models.weights)
        await self._client.load_model(model)
        shutil.rmtree(folder / str(old))

    async def _broken(self, model: str) -> None:
        broken = self._models.weights[:-WEIGHTS]
        try:
            await self._client.load_model(model, config=_OVERRIDE, files={_FILE: broken})
        except InferenceServerException:
            return
        raise InternalError(f"a broken file was loaded as '{model}'")
