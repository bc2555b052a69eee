"""Priority levels and the queue policy of each: where a request waits, and for how long at most. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.model_config import DynamicBatching, QueuePolicy

if TYPE_CHECKING:
    from naiad.core.tensors import InferRequest


class PriorityLevels:
    """The levels of one model version. Immutable; without priorities there is one level, 0."""

    def __init__(self, batching: DynamicBatching | None = None) -> None:
        """Take the levels from the config.

        Args:
            batching: the `dynamic_batching` block; without one nothing limits how requests wait.
        """
        batching = batching or DynamicBatching()
        self._count = batching.priority_levels
        self._default_level = batching.default_priority_level
        self._default_policy = batching.default_queue_policy
        self._policies = dict(batching.priority_queue_policy) if self._count else {}

    def level(self, priority: int) -> int:
        """The level of a request: its own priority, or the default where it names none, or none there is."""
        if not self._count:
            return 0
        return priority if 1 <= priority <= self._count else self._default_level

    def policy(self, level: int) -> QueuePolicy:
        """How requests of a level wait."""
        return self._policies.get(level, self._default_policy)


def queue_timeout_us(policy: QueuePolicy, request: InferRequest) -> int:
    """How long the request may wait, in microseconds; 0 for as long as its caller does.

    As in Triton a request's own timeout can only shorten the policy's.
    """
    timeout_us = policy.default_timeout_us
    if policy.allow_timeout_override and 0 < request.timeout_us < timeout_us:
        return request.timeout_us
    return timeout_us
