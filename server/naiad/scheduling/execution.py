"""Running one batch on an instance's thread: place, run, split; and alone again when a batch fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.errors import CancelledError, EngineTimeoutError, NaiadError, UnavailableError
from naiad.runtime.session import BatchSlots
from naiad.scheduling.tensors import split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import Array, InferRequest
    from naiad.runtime.session import Session
    from naiad.scheduling.tensors import BatchBuffer, BatchLayout


@dataclass(slots=True)
class Execution:
    """One run of the session and when each of its phases ended, on the monotonic clock.

    `outcomes` has the outputs or the error of each request, in order. `retried` says that the batch of these
    requests failed before and this one ran alone. `failed` says that the session's run failed, and nobody has
    outputs. `batch_size` counts batch items; `bucket` is the size that the session filled them up to, 0 if it
    runs batches as they are.
    """

    outcomes: list[dict[str, Array] | Exception]
    batch_size: int
    start_ns: int
    infer_start_ns: int
    infer_end_ns: int
    end_ns: int
    retried: bool = False
    bucket: int = 0
    failed: bool = False

    @property
    def padding(self) -> int:
        """Batch items that the session added."""
        return self.bucket - self.batch_size if self.bucket else 0

    @property
    def terminated(self) -> bool:
        """Whether the session's run was ended because nobody waited for it; there is nothing to try again."""
        return any(isinstance(outcome, CancelledError) for outcome in self.outcomes)

    @property
    def is_futile(self) -> bool:
        """Whether its requests would end so alone too: it was ended on purpose, or the engine is away."""
        away = UnavailableError | EngineTimeoutError
        return self.terminated or any(isinstance(outcome, away) for outcome in self.outcomes)


class Executor:
    """Runs batches of one instance. Used by the instance's thread alone."""

    def __init__(self, layout: BatchLayout, buffer: BatchBuffer, clock: Clock) -> None:
        self._layout = layout
        self._buffer = buffer
        self._clock = clock
        self._session: Session | None = None
        self._slots: BatchSlots | None = None

    def execute(
        self, session: Session, requests: Sequence[InferRequest], left: Callable[[int], bool]
    ) -> list[Execution]:
        """Run the requests as one batch, or, when that fails, each one by itself.

        A value that only the graph can judge (an index out of range, text that is no number) fails the whole
        run; running its batch-mates again alone keeps their results.

        Args:
            session: the instance's.
            requests: the batch, in order.
            left: whether the caller of the request at an index has gone; it is not run again then.

        Returns:
            Executions whose outcomes, one after the other, are those of the requests.
        """
        if session is not self._session:  # looked at once: it is an instance's for its whole life
            self._session = session
            self._slots = session if isinstance(session, BatchSlots) else None
        whole = self._run(session, requests)
        if len(requests) == 1 or not whole.failed or whole.is_futile:
            self._hand_out(whole, requests, left)
            return [whole]
        again = []
        for index, request in enumerate(requests):
            execution = self._abandoned() if left(index) else self._run(session, [request])
            execution.retried = True
            self._hand_out(execution, [request], left, first=index)
            again.append(execution)
        return again

    def _hand_out(
        self,
        execution: Execution,
        requests: Sequence[InferRequest],
        left: Callable[[int], bool],
        first: int = 0,
    ) -> None:
        """Give outputs to the requests' sinks; a sink's error is its own request's outcome.

        `left` knows the first of the requests by the index `first`.
        """
        if execution.failed or not any(request.sink for request in requests):
            return
        for index, request in enumerate(requests):
            outputs = execution.outcomes[index]
            if request.sink is None or isinstance(outputs, Exception) or left(first + index):
                continue
            try:
                request.sink.write(outputs)
            except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this caller and no other
                execution.outcomes[index] = _without_frames(error)
        execution.end_ns = self._clock.now_ns()

    def _run(self, session: Session, requests: Sequence[InferRequest]) -> Execution:
        start = infer_start = infer_end = self._clock.now_ns()
        outcomes: list[dict[str, Array] | Exception]
        failed = False
        try:
            inputs = self._buffer.place(requests, self._slots)
            infer_start = infer_end = self._clock.now_ns()
            outputs = session.run(inputs, self._layout.wanted(requests))
            infer_end = self._clock.now_ns()
            outcomes = list(split(self._layout, outputs, requests))
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to these callers and no others
            outcomes = [_without_frames(error)] * len(requests)
            failed = True
        size = sum(request.batch_size for request in requests)
        execution = Execution(outcomes, size, start, infer_start, infer_end, self._clock.now_ns())
        execution.failed = failed
        if self._slots is not None and self._slots.sizes:
            execution.bucket = self._slots.bucket_for(size)
        return execution

    def _abandoned(self) -> Execution:
        now = self._clock.now_ns()
        return Execution([CancelledError("the caller went away")], 0, now, now, now, now, failed=True)


def _without_frames(error: Exception) -> Exception:
    """The error without its tracebacks, whose frames would keep the batch in memory for as long as it lives.

    An error that is not ours keeps them: it is a bug, and the log needs them.
    """
    if isinstance(error, NaiadError):
        link: BaseException | None = error
        while link is not None:
            link.__traceback__ = None
            link = link.__cause__ or link.__context__
    return error
