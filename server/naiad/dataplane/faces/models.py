"""Which model a request for faces is for, and the right to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError, NotFoundError
from naiad.vision.detector import Detector

if TYPE_CHECKING:
    from naiad.dataplane.inference import DataPlane
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.embedder import Embedder


class ModelChoice(NamedTuple):
    """A model: its name, empty if the server has just one of its kind, and its version.

    None lets the server choose the version.
    """

    name: str = ""
    version: int | None = None


class Finder(NamedTuple):
    """Who finds faces: a detector, and what is wanted of it beyond its config.

    `score_threshold` is 0..1, None for the config's; `max_faces` is at most as
    many, None or 0 for the config's.
    """

    name: str = ""
    version: int | None = None
    score_threshold: float | None = None
    max_faces: int | None = None

    @property
    def model(self) -> ModelChoice:
        """The detector."""
        return ModelChoice(self.name, self.version)


def acquire(dataplane: DataPlane, choice: ModelChoice, kind: type[Detector | Embedder]) -> ModelHandle:
    """A handle on a detector or an embedder; release it when the answer is done.

    Raises:
        InvalidArgumentError: it is no such model, or none is named and there are several.
        NotFoundError: there is none.
        UnavailableError: the version asked for is not ready.
    """
    name = choice.name or _only(dataplane, kind)
    handle = dataplane.acquire(name, choice.version)
    if not isinstance(handle.vision, kind):
        handle.release()
        task = "detect" if kind is Detector else "embed"
        raise InvalidArgumentError(
            f"model '{name}' has no naiad.task '{task}' in its config, so it takes tensors and no images"
        )
    return handle


def _only(dataplane: DataPlane, kind: type[Detector | Embedder]) -> str:
    """The name of the one model of that kind."""
    manager = dataplane.manager
    names = [
        name
        for name in manager.model_names()
        if any(isinstance(serving.vision, kind) for serving in manager.ready_versions(name))
    ]
    if len(names) == 1:
        return names[0]
    word = "detector" if kind is Detector else "embedder"
    if not names:
        raise NotFoundError(f"no {word} is ready on this server")
    raise InvalidArgumentError(f"model_name is empty and there are {len(names)} {word}s: {', '.join(names)}")
