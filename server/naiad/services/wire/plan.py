"""What was found out about one kind of request: its tensors and its answer's frame, checked once."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from naiad.core.datatypes import DataType
from naiad.core.tensors import InferRequest
from naiad.services.callers import KEY_PARAMETER
from naiad.services.explain import EXPLAIN
from naiad.services.shared_memory.parameters import BYTE_SIZE, OFFSET, REGION, parse_shm_parameters
from naiad.services.wire.reply import ReplyFrame, check_size
from naiad.services.wire.scan import id_text, scan
from naiad.services.wire.shared import NOTHING_SHARED, lease_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, InferResponse
    from naiad.services.shared_memory.parameters import ShmParameters
    from naiad.services.wire.scan import Scanned
    from naiad.services.wire.shared import SharedMemory, SharedTensors

_SHM_KEYS = {REGION, OFFSET, BYTE_SIZE}

Key = TypeVar("Key")
Value = TypeVar("Value")

MAX_PLANS = 1_024
"""Plans that are kept; the oldest goes when another one comes."""

MAX_VERSIONS = 4
"""Versions of a model that one head has plans for: those of an experiment answer in turns."""

MAX_FRAMES = 16
"""Frames of answers that a plan keeps: a graph may give another shape each time."""


MAX_SHARED_BYTES = 4 * 2**20
"""Bytes of a tensor in shared memory that are copied on the event loop, where no other thread can copy them;
larger ones go the long way then."""


class _Input(NamedTuple):
    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    byte_size: int
    is_shared: bool


class InferPlan:
    """How requests with one head become requests in domain terms, and their answers messages.

    A head holds everything about a request but its id and its data: so what was right with the first one is
    right with all of them, for as long as the same config answers.
    """

    __slots__ = (
        "_carried",
        "_datatypes",
        "_frames",
        "_inputs",
        "_shared_inputs",
        "_template",
        "config",
        "is_heavy",
        "model_name",
        "others",
        "shared_outputs",
        "version",
    )

    def __init__(
        self,
        message: pb.ModelInferRequest,
        request: InferRequest,
        version: int | None,
        config: ModelConfig,
    ) -> None:
        """Make the plan of a request that passed every check.

        Args:
            message: the request as it was sent.
            request: the same in domain terms.
            version: the version that it named, None for none.
            config: what it was checked against.
        """
        self.config = config
        self.model_name = request.model_name
        self.version = version
        self._template = replace(request, inputs={})  # not the data of the first one
        self._shared_inputs = _all_shared(message.inputs)
        self._inputs = tuple(
            _Input(name, array.dtype, array.shape, array.nbytes, name in self._shared_inputs)
            for name, array in request.inputs.items()
        )
        self._carried = len(self._inputs) - len(self._shared_inputs)
        # Sorted, as the long way writes them: of two that do not fit the first one is told.
        self.shared_outputs = _all_shared(sorted(message.outputs, key=_name))
        shared = (*self._shared_inputs.values(), *self.shared_outputs.values())
        self.is_heavy = any(place.byte_size > MAX_SHARED_BYTES for place in shared)
        self._datatypes = {output.name: output.datatype for output in config.outputs}
        self._frames: dict[tuple[object, ...], ReplyFrame] = {}
        self.others: tuple[InferPlan, ...] = ()
        """What was found out about the same head with the configs of other versions, newest first."""

    def for_config(self, config: ModelConfig) -> InferPlan | None:
        """The plan for the version that answers: in an experiment it may be another one each time.

        A version that takes and gives the same needs no request of its own to learn from.
        """
        if config is self.config:
            return self
        for plan in self.others:
            if plan.config is config:
                return plan
        if not _is_alike(config, self.config):
            return None
        alike = copy(self)
        alike.config, alike.others = config, ()  # frames are kept by version
        self.others = (alike, *self.others)[: MAX_VERSIONS - 1]
        return alike

    def lease(self, regions: SharedMemory, *, defers: bool) -> SharedTensors | None:
        """The shared memory of the next request.

        Args:
            regions: where it is registered.
            defers: whether the model reads sources and writes to sinks.

        Returns:
            None if it is too much to be copied on the event loop, and no other thread can.

        Raises:
            NaiadError: a region is not there, or is too small.
        """
        shared = lease_all(regions, self._shared_inputs, self.shared_outputs, self._datatypes, defers=defers)
        if self.is_heavy and not shared.is_deferred:
            shared.release()
            return None
        return shared

    def request(
        self,
        data: bytes,
        scanned: Scanned,
        deadline_ns: int | None,
        shared: SharedTensors = NOTHING_SHARED,
    ) -> InferRequest | None:
        """The request in domain terms: its tensors are views of the message, or lie in shared memory.

        Returns:
            None if an input's data is not as long as it should be, or the id is no text.

        Raises:
            NaiadError: shared memory cannot be read.
        """
        if len(scanned.contents) != self._carried:
            return None
        places = iter(scanned.contents)
        inputs: dict[str, Array] = {}
        for name, dtype, shape, byte_size, is_shared in self._inputs:
            if is_shared:
                inputs[name] = shared.input(name, shape, dtype)
                continue
            start, stop = next(places)
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
            sources=shared.sources,
            sink=shared.sink,
        )

    def reply(self, response: InferResponse, id_field: bytes, max_bytes: int) -> bytes:
        """The answer as a serialized `ModelInferResponse`.

        Raises:
            InvalidArgumentError: it is larger than a message may be.
        """
        frame = self._frame(response, id_field, max_bytes, final=False)
        outputs = response.outputs
        if not self.shared_outputs:
            return frame.fill(id_field, outputs.values())
        return frame.fill(id_field, [outputs[name] for name in outputs if name not in self.shared_outputs])

    def share(self, response: InferResponse, shared: SharedTensors) -> None:
        """Write the outputs that are wanted in shared memory; raises as `SharedTensors.write`."""
        shared.write(response.outputs, self._datatypes)

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
            frame = ReplyFrame.of(
                self.model_name,
                response.model.version,
                outputs,
                shared=self.shared_outputs,
                final=final,
            )
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
            plan, known = InferPlan(message, request, version, config), self._plans.get(scanned.head)
            if known is not None:
                others = [other for other in (known, *known.others) if other.config is not config]
                plan.others, known.others = tuple(others[: MAX_VERSIONS - 1]), ()
            _keep(self._plans, scanned.head, plan, MAX_PLANS)


def _is_plain(message: pb.ModelInferRequest, request: InferRequest, config: ModelConfig) -> bool:
    """Whether its head says all: numbers in, numbers out, no classes asked for, no sequence."""
    return (
        not request.sequence_id
        and EXPLAIN not in message.parameters
        and KEY_PARAMETER not in message.parameters  # another key each time would be another kind each time
        and all(map(_is_plain_tensor, (*message.inputs, *message.outputs)))
        and all(array.size and not array.dtype.hasobject for array in request.inputs.values())
        and all(output.datatype is not DataType.BYTES for output in config.outputs)
    )


def _is_alike(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether the same requests pass the checks of both, and are answered in the same form."""
    return (
        one.max_batch_size == other.max_batch_size
        and one.inputs == other.inputs
        and one.outputs == other.outputs
        and one.name == other.name
    )


def _is_plain_tensor(tensor: Any) -> bool:
    """Whether it is carried as raw contents, or lies in shared memory."""
    if isinstance(tensor, pb.ModelInferRequest.InferInputTensor) and tensor.HasField("contents"):
        return False
    return set(tensor.parameters) <= (_SHM_KEYS if _shared(tensor) is not None else set())


def _name(tensor: Any) -> str:
    return str(tensor.name)


def _all_shared(tensors: Iterable[Any]) -> dict[str, ShmParameters]:
    places = {str(tensor.name): _shared(tensor) for tensor in tensors}
    return {name: place for name, place in places.items() if place is not None}


def _shared(tensor: Any) -> ShmParameters | None:
    """Where a checked tensor lies, if it is not in the message."""
    return parse_shm_parameters(tensor.parameters, tensor.name) if tensor.parameters else None


def _keep(kept: dict[Key, Value], key: Key, value: Value, limit: int) -> None:
    """Keep one more, and let go of the oldest beyond the limit."""
    kept[key] = value
    for oldest in list(islice(kept, max(0, len(kept) - limit))):
        del kept[oldest]
