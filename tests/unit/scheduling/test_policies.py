"""Which level a request waits at, and for how long: Triton's rules for priority and timeout."""

from __future__ import annotations

import pytest

from naiad.config.model_config import DynamicBatching, QueuePolicy
from naiad.core.tensors import InferRequest
from naiad.scheduling.policies import PriorityLevels, queue_timeout_us


@pytest.mark.parametrize(("priority", "level"), [(0, 2), (1, 1), (3, 3), (4, 2), (2**40, 2)])
def test_a_priority_that_is_none_or_out_of_range_is_the_default(priority: int, level: int) -> None:
    levels = PriorityLevels(DynamicBatching(priority_levels=3, default_priority_level=2))
    assert levels.level(priority) == level


def test_without_levels_all_requests_wait_alike() -> None:
    for levels in (PriorityLevels(), PriorityLevels(DynamicBatching())):
        assert {levels.level(priority) for priority in (0, 1, 7)} == {0}


def test_a_level_without_a_policy_of_its_own_has_the_default_one() -> None:
    own, default = QueuePolicy(max_queue_size=1), QueuePolicy(max_queue_size=9)
    levels = PriorityLevels(
        DynamicBatching(
            priority_levels=2,
            default_priority_level=1,
            default_queue_policy=default,
            priority_queue_policy={2: own},
        )
    )
    assert (levels.policy(1), levels.policy(2)) == (default, own)


@pytest.mark.parametrize(
    ("default_us", "allowed", "asked_us", "expected_us"),
    [
        (100, True, 10, 10),
        (100, True, 100, 100),
        (100, True, 200, 100),  # a request can only shorten it
        (100, True, 0, 100),
        (100, False, 10, 100),
        (0, True, 10, 0),  # no timeout of the policy, so nothing to shorten
    ],
)
def test_a_requests_timeout_counts_only_if_allowed_and_shorter(
    default_us: int, allowed: bool, asked_us: int, expected_us: int
) -> None:
    policy = QueuePolicy(default_timeout_us=default_us, allow_timeout_override=allowed)
    assert queue_timeout_us(policy, InferRequest("m", None, {}, timeout_us=asked_us)) == expected_us
