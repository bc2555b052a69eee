"""Running one batch on an instance's thread: place, run, split; and alone again when a batch fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.errors import NaiadError
from naiad.scheduling.tensors import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import Array, InferRequest
    from naiad.runtime.session import Session
    from naiad.scheduling.tensors import BatchBuffer, BatchLayout


@dataclass(slots=True)
class Execution:
    """One run of the session and when each of its phases ended, on the monotonic clock."""

    requests: tuple[InferRequest, ...]
    outcomes: list[dict[str, Array] | Exception]
    start_ns: int
    infer_start_ns: int
    infer_end_ns: int
    end_ns: int

    @property
    def batch_size(self) -> int:
        """Batch items of all its requests."""
        return sum(request.batch_size for request in self.requests)

    @property
    def failed(self) -> bool:
        """Whether the session's run failed."""
        return any(isinstance(outcome, Exception) for outcome in self.outcomes)


def execute(
    session: Session, requests: Sequence[InferRequest], layout: BatchLayout, buffer: BatchBuffer, clock: Clock
) -> list[Execution]:
    """Run the requests as one batch, or, when that fails, each one by itself.

    A value that only the graph can judge (an index out of range, text that is no number) fails the whole
    run; running its batch-mates again alone keeps their results. Returned executions cover each request
    once, in order.
    """
    whole = _run(session, requests, layout, buffer, clock)
    if len(requests) == 1 or not whole.failed:
        return [whole]
    return [_run(session, [request], layout, buffer, clock) for request in requests]


def _run(
    session: Session, requests: Sequence[InferRequest], layout: BatchLayout, buffer: BatchBuffer, clock: Clock
) -> Execution:
    start = infer_start = infer_end = clock.now_ns()
    outcomes: list[dict[str, Array] | Exception]
    try:
        inputs = buffer.place(requests)
        infer_start = clock.now_ns()
        outputs = session.run(inputs, layout.wanted(requests))
        infer_end = clock.now_ns()
        outcomes = list(split(layout, outputs, requests))
    except (NaiadError, ValueError, MemoryError) as error:
        # ValueError and MemoryError: numpy could not join, reshape or allocate.
        infer_end = max(infer_end, infer_start)
        outcomes = [error] * len(requests)
    return Execution(tuple(requests), outcomes, start, infer_start, infer_end, clock.now_ns())
