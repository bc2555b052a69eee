"""The switches among the `naiad.…` parameters are true or false, and nothing else."""

from __future__ import annotations

import pytest
from support.model_control import doubling_config

from naiad.config.runtime_keys import ALLOW_INTERFACE_CHANGE, check_switches, is_switched_on
from naiad.core.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), (" True", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_switch_is_read_as_it_says(text: str, value: bool) -> None:
    config = doubling_config(parameters={ALLOW_INTERFACE_CHANGE: text})
    check_switches(config)
    assert is_switched_on(config, ALLOW_INTERFACE_CHANGE) is value


def test_a_switch_that_is_not_there_is_off() -> None:
    assert not is_switched_on(doubling_config(), ALLOW_INTERFACE_CHANGE)


def test_another_word_is_refused_and_named() -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        check_switches(doubling_config(parameters={ALLOW_INTERFACE_CHANGE: "yes"}))
    assert str(refused.value) == (
        "parameter 'naiad.allow_interface_change' of model 'm' is 'yes', expected true or false"
    )
