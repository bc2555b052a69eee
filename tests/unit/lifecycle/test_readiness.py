"""Which versions keep the server from being ready: Triton's rule, and the one of servers that poll."""

from __future__ import annotations

import pytest

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.control import UNLOADED
from naiad.lifecycle.readiness import is_model_ready
from naiad.lifecycle.registry import Model
from naiad.lifecycle.states import ReadyState
from naiad.lifecycle.version import ModelVersion

BROKEN = InvalidArgumentError("broken")
WAYS: dict[str, tuple[tuple[ReadyState, object], ...]] = {
    "loading": ((ReadyState.LOADING, ""),),
    "failed": ((ReadyState.LOADING, ""), (ReadyState.UNAVAILABLE, BROKEN)),
    "ready": ((ReadyState.LOADING, ""), (ReadyState.READY, "")),
}
WAYS["leaving"] = (*WAYS["ready"], (ReadyState.UNLOADING, ""))
WAYS["unloaded"] = (*WAYS["leaving"], (ReadyState.UNAVAILABLE, UNLOADED))
WAYS["lost"] = (*WAYS["leaving"], (ReadyState.UNAVAILABLE, BROKEN))
WAYS["losing"] = (*WAYS["ready"], (ReadyState.UNLOADING, BROKEN))


def model(*ways: str, load_failures: int = 0) -> Model:
    made = Model("m", load_failures=load_failures)
    for number, way in enumerate(ways, start=1):
        made.versions[number] = ModelVersion(ModelKey("m", number))
        for state, reason in WAYS[way]:
            made.versions[number].move(state, reason)  # type: ignore[arg-type]  # errors and texts
    return made


@pytest.mark.parametrize(
    ("ways", "strict", "while_loading"),
    [
        (("ready",), True, True),
        (("ready", "loading"), False, True),
        (("ready", "failed"), False, True),
        (("leaving", "ready"), False, True),
        (("unloaded", "ready"), True, True),
        (("unloaded",), True, True),
        (("leaving",), False, True),
        (("lost", "ready"), False, False),
        (("losing", "ready"), False, False),
        (("failed",), False, False),
        (("unloaded", "failed"), False, False),
        (("loading",), False, True),
        ((), False, False),
    ],
)
def test_what_lets_a_server_be_ready(ways: tuple[str, ...], strict: bool, while_loading: bool) -> None:
    assert is_model_ready(model(*ways), while_loading=False) is strict
    assert is_model_ready(model(*ways), while_loading=True) is while_loading


def test_a_model_that_never_loaded_does_not_become_ready_by_trying_again() -> None:
    assert not is_model_ready(model("loading", load_failures=1), while_loading=True)


def test_a_model_with_a_problem_is_not_ready_whatever_serves() -> None:
    broken = model("ready")
    broken.problem = UnavailableError("twice")
    assert not is_model_ready(broken, while_loading=True)
