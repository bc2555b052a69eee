"""What is kept of a load that failed."""

from __future__ import annotations

import weakref

from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.lifecycle.version_loader import expected


class Held:
    """Stands for a model's bytes."""


def test_a_failed_load_keeps_its_reason_and_nothing_of_the_model() -> None:
    """The error is kept for as long as the version is listed as unavailable."""
    held = []

    def load() -> None:
        content = Held()
        held.append(weakref.ref(content))
        raise InvalidArgumentError("the file is cut short") from ValueError(content)

    try:
        load()
    except InvalidArgumentError as error:
        kept = expected("m/1", error)
    assert held[0]() is None
    assert kept.message == "the file is cut short"


def test_a_defect_becomes_an_internal_error_that_names_it() -> None:
    error = expected("m/1", KeyError("lost"))
    assert isinstance(error, InternalError)
    assert error.message == "KeyError: 'lost'"
