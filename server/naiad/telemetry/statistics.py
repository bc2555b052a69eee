"""Counters of one loaded version, counted when Triton counts them. They belong to the loop's thread."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naiad.core.tensors import InferTimes


class FailureReason(Enum):
    """Why an accepted request failed; the value is the label of the metric."""

    REJECTED = "REJECTED"  # the queue policy's timeout
    CANCELED = "CANCELED"  # the caller went away
    BACKEND = "BACKEND"  # the run failed
    OTHER = "OTHER"


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class BatchStatistics:
    """Executions of one batch size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class VersionStatistics:
    """What `ModelStatistics` answers for one version; a reload starts anew."""

    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    failures: dict[FailureReason, int] = field(default_factory=lambda: dict.fromkeys(FailureReason, 0))

    def record_execution(self, batch_size: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """One batch ran."""
        self.execution_count += 1
        row = self.batches.get(batch_size)
        if row is None:
            row = self.batches[batch_size] = BatchStatistics()
        row.compute_input.add(input_ns)
        row.compute_infer.add(infer_ns)
        row.compute_output.add(output_ns)

    def record_success(self, times: InferTimes, batch_size: int) -> None:
        """One request was answered; `batch_size` is its own."""
        self.last_inference_ms = time.time_ns() // 1_000_000
        self.inference_count += batch_size
        self.success.add(times.compute_end_ns - times.queued_ns)
        self.queue.add(times.queue_ns)
        self.compute_input.add(times.compute_input_ns)
        self.compute_infer.add(times.infer_ns)
        self.compute_output.add(times.compute_output_ns)

    def record_failure(self, total_ns: int, reason: FailureReason) -> None:
        """One accepted request failed: the run, its deadline, or its caller's cancellation."""
        self.last_inference_ms = time.time_ns() // 1_000_000
        self.fail.add(total_ns)
        self.failures[reason] += 1
