"""Vectors of two embedding spaces are never compared: what is refused, and which version suits a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.dataplane.faces.models import ModelChoice, acquire
from naiad.lifecycle.embedding_space import UNVERIFIED
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from naiad.dataplane.faces.compare import ComparedSide
    from naiad.dataplane.inference import DataPlane
    from naiad.lifecycle.version import ModelHandle

_MOST_SHOWN = 64
"""Of a space that a caller gives: the length of a space, and some."""


def given_space(sides: Iterable[ComparedSide], *, is_required: bool) -> str:
    """The space that the given vectors tell; empty if none does.

    Args:
        sides: the two faces.
        is_required: whether each vector must tell its space.

    Raises:
        InvalidArgumentError: one must and does not, or they tell two.
    """
    told: dict[str, str] = {}
    for side in sides:
        if side.vector is None:
            continue
        if side.space:
            told[side.name] = side.space
        elif is_required:
            raise InvalidArgumentError(
                f"{side.name}.embedding tells no embedding space and require_embedding_space is set: "
                f"set {side.name}.embedding.space to what came with the vector"
            )
    if len(set(told.values())) > 1:
        first, second = told.values()
        raise InvalidArgumentError(
            f"first.embedding is of embedding space '{_shown(first)}' and second.embedding of "
            f"'{_shown(second)}': vectors of two spaces cannot be compared, so embed one of the faces anew "
            f"with the version that made the other{_why(first, second)}"
        )
    return next(iter(told.values()), "")


def acquire_in_space(
    handles: ExitStack, dataplane: DataPlane, choice: ModelChoice, space: str
) -> ModelHandle:
    """A handle on an embedder, which `handles` gives back: where the server chooses, one of that space.

    Else requests that name no version would be refused by chance while two versions share them.

    Args:
        handles: who holds it.
        dataplane: where the models are.
        choice: the embedder.
        space: that of the vectors to compare with; empty for any.

    Raises:
        NaiadError: as `acquire`.
    """
    handle = handles.enter_context(acquire(dataplane, choice, Embedder))
    if choice.version is not None or space in ("", handle.embedding_space):
        return handle
    version = _version_in(dataplane, handle.key.name, space)
    if version is None:
        return handle
    return handles.enter_context(acquire(dataplane, ModelChoice(handle.key.name, version), Embedder))


def check_space(
    dataplane: DataPlane, sides: Iterable[ComparedSide], embedder: ModelHandle, *, is_required: bool
) -> None:
    """See that given vectors are of the embedder's space, as far as both are known.

    Raises:
        InvalidArgumentError: one is of another space; names both, and what to do. Or the embedder's must be
            known and is not.
    """
    own = embedder.embedding_space
    name, number = embedder.key
    if is_required and not own:
        raise InvalidArgumentError(
            f"embedder '{name}' version {number} tells no embedding space and require_embedding_space is set"
        )
    for side in sides:
        if side.vector is None or not side.space or not own or side.space == own:
            continue
        version = _version_in(dataplane, name, side.space)
        anew = f"embed that face anew with version {number}"
        advice = anew if version is None else f"name version {version}, which makes that space, or {anew}"
        raise InvalidArgumentError(
            f"{side.name}.embedding is of embedding space '{_shown(side.space)}', embedder '{name}' version "
            f"{number} makes '{own}': vectors of two spaces cannot be compared, so {advice}"
            f"{_why(side.space, own)}"
        )


def _version_in(dataplane: DataPlane, name: str, space: str) -> int | None:
    """The highest version that is ready and makes that space."""
    ready = dataplane.manager.ready_versions(name)
    return max((each.key.version for each in ready if each.embedding_space == space), default=None)


def _shown(space: str) -> str:
    return space if len(space) <= _MOST_SHOWN else f"{space[:_MOST_SHOWN]}..."


def _why(first: str, second: str) -> str:
    """What is behind two spaces that may look alike to who knows the model."""
    if first.startswith(UNVERIFIED) == second.startswith(UNVERIFIED):
        return ""
    return (
        ". One of the two is unverified: the server that ran the model does not tell its weights, so nothing "
        "shows that they are the same"
    )
