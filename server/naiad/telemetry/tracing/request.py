"""The trace of one request: what it keeps while the request is at work. Used on the event loop's thread."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from naiad.telemetry.tracing.settings import TraceLevel
from naiad.telemetry.tracing.tensors import TensorRecord, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from naiad.core.clock import Clock
    from naiad.core.datatypes import DataType
    from naiad.core.tensors import InferRequest, InferResponse, InferTimes, ModelKey, Tensors

MAX_TIMESTAMPS = 64
"""Timestamps of one trace; a stream marks no more."""

UNKNOWN_VERSION = -1
"""The version of a request that was refused before one was chosen."""


class FrontEnd(Enum):
    """Whose timestamps a trace begins and ends with: (received from, received, sending, sent)."""

    GRPC = ("GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "GRPC_SEND_START", "GRPC_SEND_END")
    HTTP = ("HTTP_RECV_START", "HTTP_RECV_END", "HTTP_SEND_START", "HTTP_SEND_END")


class RequestTrace:
    """One traced request.

    The front end calls `start` when the request is accepted, `respond` when its answer is there, and `finish`
    once, in the end, whatever happened. Afterwards the trace belongs to the writer and is not changed.
    Timestamps are nanoseconds of the monotonic clock.
    """

    def __init__(
        self,
        identity: int,
        model: str,
        level: TraceLevel,
        *,
        clock: Clock,
        done: Callable[[RequestTrace], None],
        front_end: FrontEnd | None = None,
        received_ns: int | None = None,
        parent: object | None = None,
    ) -> None:
        self.id = identity
        self.model = model
        self.version = UNKNOWN_VERSION
        self.request_id = ""
        self.level = level
        self.parent = parent
        self.timestamps: list[tuple[str, int]] = []  # in order, when finished
        self.tensors: list[TensorRecord] = []
        self.batch_size = 0
        self.batch_reason = ""
        self.error = ""
        self.wall_offset_ns = 0
        self._marks: dict[str, int] = {}
        self._clock = clock
        self._done: Callable[[RequestTrace], None] | None = done
        self._most_marks = MAX_TIMESTAMPS if TraceLevel.TIMESTAMPS in level else 0
        self._front_end = front_end
        self.begun_ns = clock.now_ns() if received_ns is None else received_ns
        self.ended_ns = self.begun_ns
        if front_end is not None:
            self.mark(front_end.value[0], self.begun_ns)
            self.mark(front_end.value[1])

    def __repr__(self) -> str:
        return f"<RequestTrace {self.id} of {self.model}>"

    def mark(self, name: str, ns: int | None = None) -> None:
        """Keep a timestamp: `ns`, or now. The first of each name counts."""
        if len(self._marks) < self._most_marks:
            self._marks.setdefault(name, self._clock.now_ns() if ns is None else ns)

    def start(
        self,
        request: InferRequest,
        model: ModelKey,
        datatypes: Mapping[str, DataType] | None = None,
    ) -> None:
        """The request is valid and about to be queued on this version.

        Args:
            request: what will be run.
            model: the version that was chosen.
            datatypes: of tensors by name; only BF16 cannot be told from its array.
        """
        self.mark("REQUEST_START")
        self.version = model.version
        self.request_id = request.request_id
        self._keep("TENSOR_QUEUE_INPUT", request.inputs, datatypes)

    def respond(self) -> None:
        """The request's answer (or error) is there; what follows is writing and sending it."""
        now = self._clock.now_ns()
        self.mark("INFER_RESPONSE_COMPLETE", now)
        if "REQUEST_START" in self._marks:
            self.mark("REQUEST_END", now)

    def finish(
        self,
        response: InferResponse | None,
        error: BaseException | None,
        datatypes: Mapping[str, DataType] | None = None,
    ) -> None:
        """The request is over: hand the trace to the writer. A second call does nothing."""
        done, self._done = self._done, None
        if done is None:
            return
        if response is not None:
            self._timed(response.times)
            self._keep("TENSOR_BACKEND_OUTPUT", response.outputs, datatypes)
            self.version = response.model.version
            self.batch_size, self.batch_reason = response.batch_size, response.batch_reason
        if error is not None:
            self.error = str(error) or type(error).__name__
        self.respond()
        if self._front_end is not None:
            for name in self._front_end.value[2:]:
                self.mark(name)
        self.ended_ns = self._clock.now_ns()
        self.wall_offset_ns = time.time_ns() - self.ended_ns
        self.timestamps = sorted(self._marks.items(), key=lambda kept: kept[1])
        done(self)

    def _timed(self, times: InferTimes) -> None:
        for name, ns in (
            ("QUEUE_START", times.queued_ns),
            ("COMPUTE_START", times.compute_start_ns),
            ("COMPUTE_INPUT_END", times.infer_start_ns),
            ("COMPUTE_OUTPUT_START", times.infer_end_ns),
            ("COMPUTE_END", times.compute_end_ns),
        ):
            if ns:
                self.mark(name, ns)

    def _keep(self, activity: str, tensors: Tensors, datatypes: Mapping[str, DataType] | None) -> None:
        if TraceLevel.TENSORS in self.level:
            known = datatypes or {}
            self.tensors += [
                record(activity, name, array, known.get(name)) for name, array in tensors.items()
            ]
