"""Refusals and failures in Triton's words, and which models are loaded at start."""

from __future__ import annotations

import pytest

from naiad.core.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnsupportedError,
)
from naiad.lifecycle.control import (
    ControlMode,
    check_controllable,
    check_model_name,
    load_failure,
    names_at_start,
    policy_failure,
    poll_failure,
    titled,
)


def test_only_mode_explicit_lets_clients_load() -> None:
    check_controllable(ControlMode.EXPLICIT)
    for mode in (ControlMode.NONE, ControlMode.POLL):
        with pytest.raises(UnavailableError) as raised:
            check_controllable(mode)
        assert str(raised.value) == "explicit model load / unload is not allowed if polling is enabled"


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_a_blank_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        check_model_name(name)
    assert str(raised.value) == "Model name cannot be empty. Please enter a valid name to deploy."


@pytest.mark.parametrize("name", ["..", " .. ", "a/b", "/etc", "../m", "m/"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        check_model_name(name)
    assert (
        str(raised.value)
        == f"invalid model name '{name}', model name must not contain path traversal characters"
    )


@pytest.mark.parametrize("name", ["...", "..my_model", "model..1", "m", "my model", "模型"])
def test_other_names_with_dots_are_names(name: str) -> None:
    check_model_name(name)


def test_failures_are_told_as_triton_tells_them() -> None:
    assert str(poll_failure("m")) == "failed to load 'm', failed to poll from model repository"
    failed = {3: InternalError("boom"), 1: InvalidArgumentError("bad")}
    assert str(load_failure("m", failed)) == (
        "load failed for model 'm': version 1 is at UNAVAILABLE state: Invalid argument: bad;\n"
        "version 3 is at UNAVAILABLE state: Internal: boom;\n"
    )
    error = InvalidArgumentError("at least one version must be available")
    assert (
        str(policy_failure("m", error))
        == "load failed for model 'm': at least one version must be available\n"
    )


def test_reasons_have_their_codes_long_name() -> None:
    reasons = {
        NotFoundError("x"): "Not found: x",
        UnavailableError("x"): "Unavailable: x",
        UnsupportedError("x"): "Unsupported: x",
        ResourceExhaustedError("x"): "Unknown: x",
    }
    assert [titled(reason) for reason in reasons] == list(reasons.values())
    assert titled("unloaded") == "unloaded"


def test_the_models_to_load_at_start() -> None:
    assert names_at_start(ControlMode.NONE, ()) is None
    assert names_at_start(ControlMode.POLL, ()) is None
    assert names_at_start(ControlMode.EXPLICIT, ()) == ()
    assert names_at_start(ControlMode.EXPLICIT, ("b", "a", "b")) == ("b", "a")
    assert names_at_start(ControlMode.EXPLICIT, ("*", "*")) is None
    with pytest.raises(InvalidArgumentError, match=r"must stand alone, given were \*, a"):
        names_at_start(ControlMode.EXPLICIT, ("*", "a"))
    with pytest.raises(InvalidArgumentError, match=r"--load-model=\* needs .*=explicit, it is poll"):
        names_at_start(ControlMode.POLL, ("*",))
