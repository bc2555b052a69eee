"""The states of a model version and the transitions between them. Pure."""

from __future__ import annotations

from enum import Enum


class ReadyState(Enum):
    """Where a model version stands; the value is the protocol's word."""

    UNKNOWN = "UNKNOWN"  # known to the repository, never loaded
    LOADING = "LOADING"  # sessions are being made and warmed
    READY = "READY"  # answers requests
    UNLOADING = "UNLOADING"  # answers what it accepted, accepts nothing
    UNAVAILABLE = "UNAVAILABLE"  # failed to load, or unloaded


_ALLOWED: dict[ReadyState, frozenset[ReadyState]] = {
    ReadyState.UNKNOWN: frozenset({ReadyState.LOADING, ReadyState.UNAVAILABLE}),
    ReadyState.LOADING: frozenset({ReadyState.READY, ReadyState.UNAVAILABLE}),
    ReadyState.READY: frozenset({ReadyState.UNLOADING}),
    ReadyState.UNLOADING: frozenset({ReadyState.UNAVAILABLE}),
    ReadyState.UNAVAILABLE: frozenset({ReadyState.LOADING}),
}


def check_transition(before: ReadyState, after: ReadyState) -> None:
    """Raise ValueError, naming both states, unless a version may go from `before` to `after`."""
    if after not in _ALLOWED[before]:
        raise ValueError(f"a model version cannot go from {before.value} to {after.value}")
