"""Where the time of a request for faces went."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naiad.core.tensors import InferResponse


@dataclass(slots=True)
class StageTimes:
    """Nanoseconds a request spent in each stage of one model; the largest batch it ran in."""

    started_ns: int = field(default_factory=time.monotonic_ns)
    decode_ns: int = 0
    preprocess_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    postprocess_ns: int = 0
    total_ns: int = 0
    batch_size: int = 0
    is_one_run: bool = False
    """Whether all of it but the wait was done by the instance that ran the model."""

    def add_response(self, response: InferResponse, written_ns: int = 0) -> None:
        """Count one inference; of several at once the slowest counts.

        Args:
            response: the model's.
            written_ns: what pre-processing took of the placing of its inputs.
        """
        times = response.times
        infer_ns = times.compute_input_ns + times.infer_ns + times.compute_output_ns
        self.queue_ns = max(self.queue_ns, times.queue_ns)
        self.infer_ns = max(self.infer_ns, infer_ns - written_ns)
        self.batch_size = max(self.batch_size, response.batch_size)

    def finish(self) -> None:
        """Set the total."""
        self.total_ns = time.monotonic_ns() - self.started_ns

    def with_stage(self, other: StageTimes) -> StageTimes:
        """These times with another model's added; start, total and batch size stay."""
        return StageTimes(
            started_ns=self.started_ns,
            decode_ns=self.decode_ns + other.decode_ns,
            preprocess_ns=self.preprocess_ns + other.preprocess_ns,
            queue_ns=self.queue_ns + other.queue_ns,
            infer_ns=self.infer_ns + other.infer_ns,
            postprocess_ns=self.postprocess_ns + other.postprocess_ns,
            total_ns=self.total_ns,
            batch_size=self.batch_size,
        )
