"""Every domain error has a status, and knows its message."""

from __future__ import annotations

import grpc
import pytest

from naiad.core import errors
from naiad.lifecycle.control import titled
from naiad.services.status import code_number, status_of

ALL = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.NaiadError)
]


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not errors.NaiadError])
def test_each_kind_has_a_code_of_its_own_words(kind: type[errors.NaiadError]) -> None:
    status = status_of(kind("what went wrong"))
    assert status.message == "what went wrong"
    assert status.code not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}


def test_an_error_that_is_not_ours_gives_away_nothing_but_an_incident_that_is_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = status_of(ValueError("secret path /etc/passwd"))
    assert status.code is grpc.StatusCode.INTERNAL
    assert code_number(status) == 13
    assert "secret" not in status.message
    incident = status.message.split()[-1]
    logged = capsys.readouterr().out
    assert incident in logged
    assert "secret" in logged


def test_the_index_titles_errors_as_triton_does() -> None:
    assert titled(errors.InvalidArgumentError("x")) == "Invalid argument: x"
    assert titled("unloaded") == "unloaded"
