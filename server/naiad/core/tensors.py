"""Tensor specs, requests and responses: what the layers below the services pass to each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from naiad.core.datatypes import DataType

    Array = npt.NDArray[np.generic]
    Tensors = Mapping[str, Array]

Parameter = bool | int | float | str
"""What a caller may attach to a request by a name of its own."""

WILDCARD = -1
"""A dimension that may have any size."""


class ModelKey(NamedTuple):
    """One version of one model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and full shape of a model's input or output.

    `shape` is None when the ONNX file does not say it; -1 stands for any size; a batched model's
    shape starts with its batch dimension.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...] | None


@dataclass(slots=True)
class InferRequest:
    """One validated request for one model, in domain terms.

    `inputs` maps each name to an array of the full request shape (the batch dimension included when
    the model has one); arrays may be read-only views of the received message and are never written.
    `outputs` are the requested names, or None for all. `batch_size` is 1 for models without a batch
    dimension. `deadline_ns` is on the monotonic clock; None means no deadline. `priority` 0 and
    `timeout_us` 0 leave it to the model's config (1 is the highest priority). `sequence_id` 0 or "" means
    that the request belongs to no sequence. `parameters` are the caller's own.
    """

    model_name: str
    version: int | None
    inputs: dict[str, Array]
    outputs: tuple[str, ...] | None = None
    batch_size: int = 1
    request_id: str = ""
    deadline_ns: int | None = None
    priority: int = 0
    timeout_us: int = 0
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False
    parameters: Mapping[str, Parameter] | None = None


@dataclass(slots=True)
class InferTimes:
    """Where one request's time went, on the monotonic clock in nanoseconds (0: never reached)."""

    queued_ns: int = 0
    compute_start_ns: int = 0
    infer_start_ns: int = 0
    infer_end_ns: int = 0
    compute_end_ns: int = 0

    @property
    def queue_ns(self) -> int:
        """Time between entering the queue and an instance taking the batch."""
        return max(0, self.compute_start_ns - self.queued_ns)

    @property
    def compute_input_ns(self) -> int:
        """Time spent placing inputs into the batch."""
        return max(0, self.infer_start_ns - self.compute_start_ns)

    @property
    def infer_ns(self) -> int:
        """Time spent in the session."""
        return max(0, self.infer_end_ns - self.infer_start_ns)

    @property
    def compute_output_ns(self) -> int:
        """Time spent splitting the outputs."""
        return max(0, self.compute_end_ns - self.infer_end_ns)


@dataclass(slots=True)
class InferResponse:
    """The answer to one request: who answered, the tensors, and how it ran.

    `outputs` maps each requested output to an array of its full shape, sorted by name. `batch_size`
    is that of the batch the request ran in, `batch_reason` why that batch was formed. The batch held
    `batch_requests` requests and `padding_rows` rows that stood empty, and `instance` ran it. `batch_bucket`
    is the size that it was filled up to, 0 where batches run as they are.
    """

    model: ModelKey
    outputs: dict[str, Array]
    batch_size: int = 1
    batch_reason: str = ""
    times: InferTimes = field(default_factory=InferTimes)
    instance: str = ""
    batch_requests: int = 1
    padding_rows: int = 0
    batch_bucket: int = 0
