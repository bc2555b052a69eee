"""When a failed call is tried again: back-off with jitter, the server's pushback, a deadline. Pure.

gRPC's own retry policy is not used: it holds for a whole channel and not for one call, it never tries a
request again that is larger than its buffer (256 KiB unless told otherwise; a picture is larger), it looks
at the server's pushback for the codes of its list only, and streams, which resume rather than repeat, need
the same rules.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad_client.errors import NaiadError

DEFAULT_RETRIES = 4
DEFAULT_RESUMES = 12
"""Of a stream that was answered before: 36 s in all, which a server that starts anew may take."""

_WITH_PUSHBACK = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED})
"""Tried again only where the server says when."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a try where the server does not say.

    Attributes:
        first_s: before the first one more, seconds.
        most_s: before any, seconds.
        factor: from one to the next.
        jitter: each wait is a random part longer or shorter, up to this one, so that clients do not come
            together.
    """

    first_s: float = 0.1
    most_s: float = 5.0
    factor: float = 2.0
    jitter: float = 0.2


class RetryPlan:
    """The tries of one call, or of one stream between two results.

    Args:
        retries: how many tries more than the first.
        resumes: how many once something was answered; None for `retries`.
        deadline_s: when the call's time is up, on the clock that `pause_s` is told; None for never.
        backoff: the waits.
        uniform: a random number from one bound to another.
    """

    def __init__(
        self,
        retries: int,
        deadline_s: float | None = None,
        *,
        resumes: int | None = None,
        backoff: Backoff = Backoff(),
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        if retries < 0:
            raise ValueError(f"retries is {retries}: 0 or more is wanted")
        self.retries = retries
        self._resumes = retries if resumes is None else resumes
        self._deadline_s = deadline_s
        self._backoff = backoff
        self._uniform = uniform
        self._used = 0

    def left_s(self, now_s: float) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - now_s)

    def pause_s(self, error: NaiadError, now_s: float) -> float | None:
        """Seconds to wait before the next try; None if there is none, and the error is the call's.

        There is none that could not begin before the deadline.
        """
        if self._used >= self.retries or not is_retryable(error):
            return None
        pause = self._backoff_s() if error.retry_after_ms is None else error.retry_after_ms / 1000
        if self._deadline_s is not None and now_s + pause >= self._deadline_s:
            return None
        self._used += 1
        return pause

    def progress(self) -> None:
        """Something was answered: the next failure is a first one again, with `resumes` tries."""
        self._used = 0
        self.retries = self._resumes

    def _backoff_s(self) -> float:
        plan = self._backoff
        wait = min(plan.most_s, plan.first_s * plan.factor**self._used)
        return wait * self._uniform(1 - plan.jitter, 1 + plan.jitter)


def is_retryable(error: NaiadError) -> bool:
    """Whether the same request may succeed later: nobody there, or the server says when."""
    if error.retry_after_ms is not None and error.retry_after_ms < 0:
        return False
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return True
    return error.code in _WITH_PUSHBACK and error.retry_after_ms is not None
