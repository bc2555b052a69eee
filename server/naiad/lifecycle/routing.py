"""Which version answers a request: a pure function of what was asked and what is ready. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import NotFoundError, UnavailableError
from naiad.lifecycle.states import ReadyState

if TYPE_CHECKING:
    from collections.abc import Mapping


def choose_version(name: str, requested: int | None, states: Mapping[int, ReadyState] | None) -> int:
    """The version of model `name` that should answer.

    Args:
        name: the model asked for.
        requested: the version asked for, or None to let the server choose: the highest ready one.
        states: the state of each known version; None if the model is not known at all.

    Raises:
        NotFoundError: no such model, no such version, or none ready.
        UnavailableError: the version is known and not ready.
    """
    prefix = f"Request for unknown model: '{name}'"
    if states is None:
        raise NotFoundError(f"{prefix} is not found")
    if requested is None:
        ready = [version for version, state in states.items() if state is ReadyState.READY]
        if not ready:
            raise NotFoundError(f"{prefix} has no available versions")
        return max(ready)
    state = states.get(requested)
    if state is None:
        raise NotFoundError(f"{prefix} version {requested} is not found")
    if state is not ReadyState.READY:
        raise UnavailableError(f"{prefix} version {requested} is not at ready state")
    return requested
