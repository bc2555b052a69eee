"""What was found out about one kind of request: its tensors and its answer's frame, checked once."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.tensors import InferRequest
from naiad.services.explain import EXPLAIN
from naiad.services.wire.reply import ReplyFrame, check_size
from naiad.services.wire.scan import id_text, scan

if TYPE_CHECKING:
    from tritonclient.grpc import service_pb2 as pb

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, InferResponse
    from naiad.services.wire.scan import Scanned

Key = TypeVar("Key")
Value = TypeVar("Value")

MAX_PLANS = 1_024
"""Plans that are kept; the oldest goes when another one comes."""

MAX_FRAMES = 16
"""Frames of answers that a plan keeps: a graph may give another shape each time."""


class _Input(NamedTuple):
    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    byte_size: int


class InferPlan:
    """How requests with one head become requests in domain terms, and their answers messages.

    A head holds everything about a request but its id and its data: so what was right with the first one is
    right with all of them, for as long as the same config answers.
    """

    __slots__ = ("_datatypes", "_frames", "_inputs", "_template", "config", "model_name", "version")

    def __init__(self, request: InferRequest, version: int | None, config: ModelConfig) -> None:
        """Make the plan of a request that passed every check.

        Args:
            request: the checked request.
            version: the version that it named, None for none.
            config: what it was checked against.
        """
        self.config = config
        self.model_name = request.model_name
        self.version = version
        self._template = request
        self._inputs = tuple(
            _Input(name, array.dtype, array.shape, array.nbytes) for name, array in request.inputs.items()
        )
        self._datatypes = {output.name: output.datatype for output in config.outputs}
        self._frames: dict[tuple[object, ...], ReplyFrame] = {}

    def request(self, data: bytes, scanned: Scanned, deadline_ns: int | None) -> InferRequest | None:
        """The request in domain terms, its tensors views of the message.

        Returns:
            None if an input's data is not as long as it should be, or the id is no text.
        """
        if len(scanned.contents) != len(self._inputs):
            return None
        inputs: dict[str, Array] = {}
        for (name, dtype, shape, byte_size), (start, stop) in zip(
            self._inputs, scanned.contents, strict=True
        ):
            if stop - start != byte_size:
                return None
            inputs[name] = np.ndarray(shape, dtype, data, start)
        request_id = ""
        if scanned.id_field:
            try:
                request_id = id_text(scanned.id_field)
            except UnicodeDecodeError:
                return None
        known = self._template
        return InferRequest(
            known.model_name,
            None,
            inputs,
            known.outputs,
            known.batch_size,
            request_id,
            deadline_ns,
            known.priority,
            known.timeout_us,
            parameters=known.parameters,
        )

    def reply(self, response: InferResponse, id_field: bytes, max_bytes: int) -> bytes:
        """The answer as a serialized `ModelInferResponse`.

        Raises:
            InvalidArgumentError: it is larger than a message may be.
        """
        frame = self._frame(response, id_field, max_bytes, final=False)
        return frame.fill(id_field, response.outputs.values())

    def stream_reply(self, response: InferResponse, id_field: bytes, max_bytes: int) -> bytes:
        """The answer as a serialized `ModelStreamInferResponse`, marked as its request's last one.

        Raises:
            InvalidArgumentError: it is larger than a message may be.
        """
        frame = self._frame(response, id_field, max_bytes, final=True)
        return frame.fill_streamed(id_field, response.outputs.values())

    def _frame(self, response: InferResponse, id_field: bytes, max_bytes: int, *, final: bool) -> ReplyFrame:
        kind = (response.model.version, final, *[array.shape for array in response.outputs.values()])
        frame = self._frames.get(kind)
        if frame is None:
            outputs = [(name, self._datatypes[name], array) for name, array in response.outputs.items()]
            frame = ReplyFrame.of(self.model_name, response.model.version, outputs, final=final)
            _keep(self._frames, kind, frame, MAX_FRAMES)
        check_size(frame.size + len(id_field), max_bytes)
        return frame


class InferPlans:
    """The plans of the kinds of requests that came last. Used on the event loop's thread."""

    def __init__(self) -> None:
        self._plans: dict[bytes, InferPlan] = {}

    def __len__(self) -> int:
        return len(self._plans)

    def find(self, data: bytes) -> tuple[InferPlan, Scanned] | None:
        """The plan for a message, if one of its kind has been learnt."""
        scanned = scan(data)
        if scanned is None:
            return None
        plan = self._plans.get(scanned.head)
        return None if plan is None else (plan, scanned)

    def learn(
        self,
        data: bytes,
        message: pb.ModelInferRequest,
        request: InferRequest,
        version: int | None,
        config: ModelConfig,
    ) -> None:
        """Keep what a request that passed every check shows of its kind.

        Args:
            data: the request's bytes.
            message: the same, parsed.
            request: the same in domain terms.
            version: the version that it named.
            config: what it was checked against.
        """
        scanned = scan(data) if _is_plain(message, request, config) else None
        if scanned is not None:
            _keep(self._plans, scanned.head, InferPlan(request, version, config), MAX_PLANS)


def _is_plain(message: pb.ModelInferRequest, request: InferRequest, config: ModelConfig) -> bool:
    """Whether its head says all: numbers in, numbers out, no place or class asked for, no sequence."""
    return (
        not request.sequence_id
        and EXPLAIN not in message.parameters
        and len(message.raw_input_contents) == len(message.inputs)
        and not any(tensor.parameters for tensor in (*message.inputs, *message.outputs))
        and all(array.size and not array.dtype.hasobject for array in request.inputs.values())
        and all(output.datatype is not DataType.BYTES for output in config.outputs)
    )


def _keep(kept: dict[Key, Value], key: Key, value: Value, limit: int) -> None:
    """Keep one more, and let go of the oldest beyond the limit."""
    kept[key] = value
    for oldest in list(islice(kept, max(0, len(kept) - limit))):
        del kept[oldest]
