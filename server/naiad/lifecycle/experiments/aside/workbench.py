"""What the process aside does with its messages: opens versions, runs them, and looks into answers."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from naiad.config.complete import read_completed_config
from naiad.config.messages import new_message
from naiad.config.reader import config_from_message
from naiad.core.errors import NaiadError, UnavailableError
from naiad.core.tensors import ModelKey, placeholder
from naiad.lifecycle.experiments.aside.candidate import Candidate, Case, Reader, config_aside, not_open
from naiad.lifecycle.experiments.aside.jobs import JobFailed, ModelOpened, ShadowResult, SignsResult
from naiad.lifecycle.experiments.aside.wire import result_to_message
from naiad.lifecycle.experiments.worst import WorstDisagreements
from naiad.lifecycle.loading import RepositoryLoader, vision_model
from naiad.repository.layout import ModelFolder
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget
from naiad.vision.agreement import agree, signs

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.config.messages import Message as ConfigMessage
    from naiad.lifecycle.experiments.aside.arena import ArenaView
    from naiad.lifecycle.experiments.aside.jobs import AsideResult
    from naiad.lifecycle.experiments.aside.wire import Message

_MAX_REASON = 2_000
_ANY_DTYPE = np.dtype(np.uint8)
_BUDGET = CpuBudget(1, "one thread in the process aside")


class Workbench:
    """The versions that are open. Used by the process's one thread."""

    def __init__(self, arena: ArenaView) -> None:
        self._arena = arena
        self._candidates: dict[ModelKey, Candidate] = {}
        self._readers: dict[ModelKey, Reader] = {}
        self._verbs: dict[str, Callable[[ModelKey, Message], AsideResult]] = {
            "open": self._open,
            "read": self._read,
            "close": self._close,
            "shadow": self._shadow,
            "signs": self._signs,
        }

    def answer(self, message: Message) -> Message:
        """Do what a message says; whatever goes wrong is the answer."""
        key = ModelKey(*message["key"])
        try:
            result = self._verbs[message["do"]](key, message)
        except NaiadError as error:
            # What a version refuses is its own fault: another one has answered the same request.
            result = JobFailed(error.message[:_MAX_REASON], message["do"] in ("open", "shadow"))
        except Exception as error:  # noqa: BLE001  # a defect in one job must not take down the others
            result = JobFailed(f"{type(error).__name__}: {error}"[:_MAX_REASON], is_candidates_fault=False)
        return result_to_message(result)

    def _open(self, key: ModelKey, message: Message) -> AsideResult:
        """Load a version that is to be run."""
        self._forget(key)
        config = config_aside(config_from_message(self._config(message), Path(message["folder"])))
        folder = ModelFolder(key.name, Path(message["folder"]), tuple(message["versions"]))
        model = self._loader(message).load(folder, key.version, config)
        notes = (*model.version.notes, *model.version.fallbacks)
        worst = None
        place, count, experiment = message["keep"] or (None, 0, "")
        try:
            worst = WorstDisagreements(Path(place), count) if place else None
        except UnavailableError as error:
            notes = (*notes, f"disagreements are not kept: {error.message}")
        self._candidates[key] = Candidate(key, model, worst, experiment)
        self._readers[key] = Reader(model.version.config, model.vision, same_space=message["same_space"])
        return ModelOpened(key, notes)

    def _read(self, key: ModelKey, message: Message) -> AsideResult:
        """Learn how to read the answers of a version, from its completed config."""
        config = read_completed_config(self._config(message), Path(message["folder"]))
        self._readers[key] = Reader(config, vision_model(config))
        return ModelOpened(key)

    def _close(self, key: ModelKey, _: Message) -> AsideResult:
        self._forget(key)
        return ModelOpened(key)

    def _shadow(self, key: ModelKey, message: Message) -> AsideResult:
        """Run a request on a candidate and compare the answers."""
        candidate, reader = self._candidates.get(key), self._readers.get(key)
        if candidate is None or reader is None:
            raise not_open(key)
        inputs = self._arena.read(message["inputs"])
        # What agreement keeps of them must outlive the message.
        outputs = self._arena.read(message["outputs"], copy=True)
        ran = candidate.run(inputs, outputs)
        agreement = agree(
            reader.vision,
            reader.config,
            outputs,
            ran.outputs,
            inputs,
            window=reader.window,
            same_space=reader.same_space,
        )
        case = Case(message["baseline"], inputs, outputs, ran.outputs, message["request_id"])
        try:
            return ShadowResult(agreement, ran.took_ms, candidate.keep(case, agreement))
        except UnavailableError as error:
            return ShadowResult(agreement, ran.took_ms, not_kept=error.message)

    def _signs(self, key: ModelKey, message: Message) -> AsideResult:
        reader = self._readers.get(key)
        if reader is None:
            raise not_open(key)
        shapes = message["shapes"].items()
        inputs = {name: placeholder(tuple(shape), _ANY_DTYPE) for name, shape in shapes}
        outputs = self._arena.read(message["outputs"])
        return SignsResult(signs(reader.vision, reader.config, outputs, inputs))

    def _forget(self, key: ModelKey) -> None:
        self._readers.pop(key, None)
        if (candidate := self._candidates.pop(key, None)) is not None:
            candidate.close()

    def _config(self, message: Message) -> ConfigMessage:
        """Triton's message of a config, which lies in the arena."""
        (data,) = self._arena.read(message["config"]).values()
        parsed = new_message()
        parsed.ParseFromString(data.tobytes())
        return parsed

    def _loader(self, message: Message) -> RepositoryLoader:
        return RepositoryLoader(
            self._environment,
            _BUDGET,
            auto_complete=message["auto_complete"],
            default_max_batch_size=message["default_max_batch_size"],
        )

    @cached_property
    def _environment(self) -> OrtEnvironment:
        return OrtEnvironment.detect()
