"""States and the choice of a version."""

from __future__ import annotations

import itertools

import pytest

from naiad.core.errors import NotFoundError, UnavailableError
from naiad.lifecycle.routing import choose_version
from naiad.lifecycle.states import ReadyState, check_transition

LEGAL = {
    ("UNKNOWN", "LOADING"),
    ("UNKNOWN", "UNAVAILABLE"),
    ("LOADING", "READY"),
    ("LOADING", "UNAVAILABLE"),
    ("READY", "UNLOADING"),
    ("UNLOADING", "UNAVAILABLE"),
    ("UNAVAILABLE", "LOADING"),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ReadyState, ReadyState)))
def test_only_the_written_transitions_are_possible(before: ReadyState, after: ReadyState) -> None:
    if (before.value, after.value) in LEGAL:
        check_transition(before, after)
    else:
        with pytest.raises(ValueError, match=f"from {before.value} to {after.value}"):
            check_transition(before, after)


STATES = {1: ReadyState.READY, 2: ReadyState.READY, 3: ReadyState.LOADING, 10: ReadyState.UNAVAILABLE}


@pytest.mark.parametrize(("requested", "chosen"), [(None, 2), (1, 1), (2, 2)])
def test_the_highest_ready_version_answers_unless_one_is_asked_for(
    requested: int | None, chosen: int
) -> None:
    assert choose_version("m", requested, STATES) == chosen


def test_what_cannot_be_chosen_is_told_in_tritons_words() -> None:
    with pytest.raises(NotFoundError, match=r"^Request for unknown model: 'm' is not found$"):
        choose_version("m", None, None)
    with pytest.raises(NotFoundError, match=r"^Request for unknown model: 'm' version 4 is not found$"):
        choose_version("m", 4, STATES)
    with pytest.raises(
        UnavailableError, match=r"^Request for unknown model: 'm' version 3 is not at ready state$"
    ):
        choose_version("m", 3, STATES)
    with pytest.raises(NotFoundError, match=r"^Request for unknown model: 'm' has no available versions$"):
        choose_version("m", None, {1: ReadyState.UNAVAILABLE})
