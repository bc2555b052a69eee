"""Tensor specs, requests and responses: what the layers below the services pass to each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class TensorSource(Protocol):
    """Where an input's values come from when its batch is formed: they are written to their place in it.

    It is read on an instance's thread, at most twice (again alone, when its batch failed), and may be read
    after its caller has gone.
    """

    def read_into(self, target: Array) -> None:
        """Write all of the values to `target`, which has the input's shape and lies row by row in memory.

        Raises:
            NaiadError: there are none; the request fails with it, and no other one.
        """
        ...


class TensorSink(Protocol):
    """Where outputs go besides the response, once the model has given them."""

    def write(self, outputs: Tensors) -> None:
        """Take the outputs, by name; on an instance's thread. Not called for whose caller has gone.

        Raises:
            NaiadError: they cannot be taken; the request fails with it, and no other one.
        """
        ...


@lru_cache(maxsize=256)
def placeholder(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """An array of that shape and datatype without values, for an input that has a `TensorSource`.

    It cannot be written to, and is the same one each time.
    """
    array: Array = np.broadcast_to(np.zeros((), dtype), shape)
    return array


@dataclass(slots=True)
class InferRequest:
    """One validated request for one model, in domain terms.

    `inputs` maps each name to an array of the full request shape (the batch dimension included when
    the model has one); arrays may be read-only views of the received message and are never written.
    `outputs` are the requested names, or None for all. `batch_size` is 1 for models without a batch
    dimension. `deadline_ns` is on the monotonic clock; None means no deadline. `priority` 0 and
    `timeout_us` 0 leave it to the model's config (1 is the highest priority). `sequence_id` 0 or "" means
    that the request belongs to no sequence. `parameters` are the caller's own.

    An input named in `sources` is a `placeholder` in `inputs` and is read when its batch is formed; `sink`
    takes the outputs. Only schedulers that say so (`defers`) know of the two.
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
    sources: Mapping[str, TensorSource] | None = None
    sink: TensorSink | None = None


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
