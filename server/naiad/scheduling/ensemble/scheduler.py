"""The scheduler of ensembles: it has no instances, its steps go to the schedulers of their models."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import (
    CancelledError,
    DeadlineExceededError,
    EngineTimeoutError,
    InternalError,
    UnavailableError,
)
from naiad.core.tensors import InferResponse, InferTimes
from naiad.scheduling.deadlines import Deadlines
from naiad.scheduling.ensemble.gate import StepGate
from naiad.scheduling.ensemble.order import SequenceOrder
from naiad.scheduling.ensemble.plan import Tensor, make_plan, pass_on
from naiad.scheduling.ensemble.run import BoundStep, EnsembleRun
from naiad.telemetry.statistics import FailureReason, RefusalReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.core.tensors import Array, InferRequest, ModelKey
    from naiad.scheduling.ensemble.plan import Plan
    from naiad.scheduling.ensemble.run import Outcome, StepModel
    from naiad.telemetry.statistics import VersionStatistics

BATCH_REASON = "ensemble"
"""What an answer says in place of why its batch was formed: each step's own batch has its own reason."""


class _Accepted(NamedTuple):
    future: asyncio.Future[InferResponse]
    arrived_ns: int


class EnsembleScheduler:
    """Runs each request through the models that the ensemble is bound to. Used on the event loop's thread.

    A request is at work from `submit` on. What waits for an instance waits in the queues of the models, and
    is bounded there; what waits because of `max_inflight_requests`, or for an earlier request of its
    sequence, waits here.
    """

    defers = False  # several steps may read them

    def __init__(
        self,
        key: ModelKey,
        *,
        config: ModelConfig,
        statistics: VersionStatistics,
        max_queue_size: int,
        clock: Clock,
    ) -> None:
        """Create it unbound.

        Args:
            key: the model version that answers are signed with.
            config: the ensemble's.
            statistics: counts what happens here; the steps count for themselves too.
            max_queue_size: requests that may wait here.
            clock: the monotonic clock of deadlines.
        """
        assert config.ensemble is not None
        self._key = key
        self._config = config
        self._ensemble = config.ensemble
        self._batched = config.max_batch_size > 0
        self._output_specs = {spec.name: spec for spec in sorted(config.outputs, key=lambda each: each.name)}
        self._statistics = statistics
        self._max_queue_size = max_queue_size
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        limit = self._ensemble.max_inflight_requests
        self._gates = [StepGate(limit, self._loop) for _ in self._ensemble.steps]
        self._order = SequenceOrder(self._loop)
        self._bound: tuple[BoundStep, ...] = ()
        self._whole_plan = make_plan(self._ensemble, self._output_specs)
        self._runs: dict[EnsembleRun, _Accepted] = {}
        self._deadlines: Deadlines[EnsembleRun] = Deadlines(lambda run: not run.is_over)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._closing = False
        self._drained = asyncio.Event()
        self._drained.set()

    def __repr__(self) -> str:
        return f"<EnsembleScheduler {self._key} at_work={len(self._runs)} waiting={self.queued}>"

    @property
    def queued(self) -> int:
        """Steps that wait for earlier requests: of their sequence, or as many as may be at work in them."""
        return self._order.waiting + sum(gate.waiting for gate in self._gates)

    @property
    def busy(self) -> int:
        """Instances that run a batch: an ensemble has none."""
        return 0

    @property
    def at_work(self) -> int:
        """Requests that were accepted and are not answered."""
        return len(self._runs)

    @property
    def models(self) -> tuple[StepModel, ...]:
        """What runs each step now."""
        return tuple(bound.model for bound in self._bound)

    def bind(self, models: Sequence[StepModel]) -> None:
        """Run requests that come from now on with these models, one a step; those at work keep theirs."""
        bound = zip(self._ensemble.steps, models, self._gates, strict=True)
        self._bound = tuple(BoundStep(step, model, gate) for step, model, gate in bound)

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Start a validated request; the future yields its response or the error.

        Raises:
            UnavailableError: the version drains, or too many requests wait.
        """
        if self._closing or not self._bound:
            self._statistics.record_refused(RefusalReason.STOPPING)
            raise UnavailableError(
                "Server is stopping, scheduler for model has stopped accepting new inference requests"
            )
        if self.queued >= self._max_queue_size:
            self._statistics.record_refused(RefusalReason.QUEUE_FULL)
            raise UnavailableError(
                f"[request id: {request.request_id or '<id_unknown>'}] Exceeds maximum queue size: "
                f"{self.queued} requests wait for '{self._key}', the limit is {self._max_queue_size} "
                "(--max-queue-size)"
            )
        plan = self._plan(request)
        inputs = self._inputs(request)
        run = EnsembleRun(self._key.name, request, self._bound, plan, order=self._order, ended=self._ended)
        future: asyncio.Future[InferResponse] = self._loop.create_future()
        self._runs[run] = _Accepted(future, self._clock.now_ns())
        self._drained.clear()
        future.add_done_callback(partial(self._leave_if_cancelled, run))
        run.begin(inputs)
        if request.deadline_ns is not None and not run.is_over:
            self._deadlines.push(request.deadline_ns, run)
            self._watch()
        return future

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is answered."""
        self._closing = True
        await self._drained.wait()

    async def close(self) -> None:
        """Fail what is still at work."""
        self._closing = True
        for run in list(self._runs):
            run.give_up()
            self._ended(run, UnavailableError("the server stopped before this request could run"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self, request: InferRequest) -> Plan:
        if request.outputs is None:
            return self._whole_plan
        return make_plan(self._ensemble, request.outputs)

    def _inputs(self, request: InferRequest) -> dict[str, Tensor]:
        """The ensemble's inputs as its steps see them; None stands for an optional one that was left out."""
        inputs = {}
        for spec in self._config.inputs:
            array = request.inputs.get(spec.name)
            if array is not None and spec.reshape is not None:
                array = self._reshaped(array, spec.reshape)
            inputs[spec.name] = Tensor(array, self._batched)
        return inputs

    def _outputs(self, request: InferRequest, tensors: Mapping[str, Tensor]) -> dict[str, Array]:
        """The answer's tensors in the shapes that the config promises."""
        outputs = {}
        for name in self._output_specs if request.outputs is None else sorted(request.outputs):
            spec = self._output_specs[name]
            dims = spec.dims if spec.reshape is None else spec.reshape
            array = pass_on(tensors[name], dims, batched=self._batched)
            if array is not None:
                outputs[name] = array if spec.reshape is None else self._reshaped(array, spec.dims)
        return outputs

    def _reshaped(self, array: Array, dims: tuple[int, ...]) -> Array:
        return array.reshape((array.shape[0], *dims) if self._batched else dims)

    def _ended(self, run: EnsembleRun, outcome: Outcome) -> None:
        future, arrived_ns = self._runs.pop(run)
        self._deadlines.next_ns()  # lets go of runs that are over: they hold their inputs
        now_ns = self._clock.now_ns()
        if not isinstance(outcome, BaseException):
            try:
                response = self._response(run, outcome, arrived_ns, now_ns)
            except ValueError as error:  # what numpy says of a shape that cannot be had
                outcome = InternalError(f"in ensemble '{self._key.name}', {error}")
            else:
                self._statistics.record_composed(
                    response.times,
                    run.request.batch_size,
                    BATCH_REASON,
                    input_ns=run.input_ns,
                    infer_ns=run.infer_ns,
                    output_ns=run.output_ns,
                )
        if isinstance(outcome, BaseException):
            self._statistics.record_failure(now_ns - arrived_ns, _reason(outcome))
        if not self._runs:
            self._drained.set()
        if future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(response)

    def _response(
        self, run: EnsembleRun, tensors: Mapping[str, Tensor], arrived_ns: int, now_ns: int
    ) -> InferResponse:
        times = InferTimes(
            queued_ns=arrived_ns,
            compute_start_ns=arrived_ns,
            infer_start_ns=arrived_ns,
            infer_end_ns=now_ns,
            compute_end_ns=now_ns,
        )
        outputs = self._outputs(run.request, tensors)
        return InferResponse(self._key, outputs, run.request.batch_size, BATCH_REASON, times)

    def _leave_if_cancelled(self, run: EnsembleRun, future: asyncio.Future[InferResponse]) -> None:
        if future.cancelled() and not run.is_over:
            run.give_up()
            self._ended(run, CancelledError("the caller went away"))

    def _watch(self) -> None:
        """Set the timer to the next deadline."""
        next_ns = self._deadlines.next_ns()
        if next_ns is None or (self._timer is not None and self._timer_ns <= next_ns):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = next_ns
        self._timer = self._loop.call_later(max(0, next_ns - self._clock.now_ns()) / 1e9, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for run in self._deadlines.pop_due(self._clock.now_ns()):
            if not run.is_over:
                run.give_up()
                self._ended(run, DeadlineExceededError("Deadline Exceeded"))
        self._watch()


def _reason(error: BaseException) -> FailureReason:
    """As in Triton, an ensemble does not tell why its step failed: the step's own statistics do."""
    if isinstance(error, CancelledError):
        return FailureReason.CANCELED
    if isinstance(error, DeadlineExceededError) and not isinstance(error, EngineTimeoutError):
        return FailureReason.REJECTED
    return FailureReason.OTHER
