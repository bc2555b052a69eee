"""What runs, and what a run leaves behind: counts of its phases, the answer to each of its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import CancelledError, DeadlineExceededError, EngineTimeoutError, UnavailableError
from naiad.core.tensors import InferResponse, InferTimes
from naiad.telemetry.statistics import FailureReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array, InferRequest, ModelKey
    from naiad.scheduling.admission import Admission
    from naiad.scheduling.execution import Execution
    from naiad.scheduling.queue import PendingRequest
    from naiad.telemetry.statistics import VersionStatistics


class RunningBatch(NamedTuple):
    """What an instance runs: its rows, their batch items, since when, and how many rows stand empty."""

    rows: Sequence[PendingRequest | InferRequest]
    items: int
    started_ns: int
    padding: int


class RunRecord(NamedTuple):
    """An execution with what only the scheduler knows about it.

    `why` is the batch's reason, `instance` the name of who ran it. The batch held `requests` requests and
    `padding` rows that stood empty.
    """

    key: ModelKey
    execution: Execution
    why: str
    instance: str
    requests: int
    padding: int

    def record(self, statistics: VersionStatistics, admission: Admission | None) -> None:
        """Count the run, and tell admission control how long it took."""
        execution = self.execution
        size, took_ns = execution.batch_size, execution.end_ns - execution.start_ns
        if not execution.failed:
            statistics.record_execution(
                size,
                execution.infer_start_ns - execution.start_ns,
                execution.infer_end_ns - execution.infer_start_ns,
                execution.end_ns - execution.infer_end_ns,
                self.why,
            )
            if self.padding:
                statistics.padding_rows += self.padding
            if admission is not None:
                admission.times.measure(size, took_ns)
        elif admission is not None and execution.terminated and size:  # 0: all left before their rerun
            admission.times.measure_at_least(size, took_ns)

    def share_ns(self, batch_size: int) -> int:
        """A request's share of the run's time; `batch_size` is the request's own."""
        took_ns = self.execution.end_ns - self.execution.start_ns
        return took_ns * batch_size // self.execution.batch_size

    def response(self, pending: PendingRequest, outputs: dict[str, Array]) -> InferResponse:
        """The answer to one of its requests, which gets these outputs."""
        execution = self.execution
        times = InferTimes(
            queued_ns=pending.arrived_ns,
            compute_start_ns=execution.start_ns,
            infer_start_ns=execution.infer_start_ns,
            infer_end_ns=execution.infer_end_ns,
            compute_end_ns=execution.end_ns,
        )
        return InferResponse(
            self.key,
            outputs,
            execution.batch_size,
            self.why,
            times,
            self.instance,
            self.requests,
            self.padding,
            execution.bucket,
        )


def failure_reason(error: BaseException) -> FailureReason:
    """How a request that failed with this error is counted."""
    if isinstance(error, CancelledError):
        return FailureReason.CANCELED
    if isinstance(error, UnavailableError | EngineTimeoutError):
        return FailureReason.OTHER
    return FailureReason.REJECTED if isinstance(error, DeadlineExceededError) else FailureReason.BACKEND
