"""Whether a model lets the whole server be ready. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.lifecycle.states import ReadyState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.lifecycle.registry import Model
    from naiad.lifecycle.version import ModelVersion


def is_model_ready(model: Model, *, while_loading: bool) -> bool:
    """Whether nothing that callers may count on is missing.

    Args:
        model: the model.
        while_loading: False is Triton's rule: each version serves, or was taken out on purpose. With True
            versions that have never served count for nothing beside one that serves, nor do versions that
            leave; a model that is loaded for the first time counts when that has failed.
    """
    if model.problem is not None or not model.versions:
        return False
    entries = model.versions.values()
    if not while_loading:
        return all(entry.state is ReadyState.READY or entry.is_out_on_purpose for entry in entries)
    if any(map(_is_lost, entries)):
        return False
    return _serves(entries) or _is_out(entries) or _comes(model)


def _is_lost(entry: ModelVersion) -> bool:
    """Whether it served, and nobody meant it to stop."""
    is_off = entry.state is ReadyState.UNAVAILABLE or (
        entry.state is ReadyState.UNLOADING and bool(entry.reason)
    )
    return entry.has_served and is_off and not entry.is_out_on_purpose


def _serves(entries: Iterable[ModelVersion]) -> bool:
    return any(entry.state is ReadyState.READY for entry in entries)


def _is_out(entries: Iterable[ModelVersion]) -> bool:
    """Whether all of it was taken out of service, or is about to be."""
    return all(entry.is_out_on_purpose or entry.state is ReadyState.UNLOADING for entry in entries)


def _comes(model: Model) -> bool:
    """Whether it is loaded for the first time."""
    return not model.load_failures and any(
        entry.state is ReadyState.LOADING for entry in model.versions.values()
    )
