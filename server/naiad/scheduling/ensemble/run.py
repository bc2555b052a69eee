"""One request on its way through the steps of an ensemble."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from naiad.core.errors import CancelledError, NaiadError
from naiad.scheduling.ensemble.plan import Progress, Tensor, pass_on
from naiad.scheduling.ensemble.requests import step_request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from naiad.config.ensemble_config import EnsembleStep
    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import InferRequest, InferResponse
    from naiad.scheduling.ensemble.gate import StepGate
    from naiad.scheduling.ensemble.order import SequenceOrder
    from naiad.scheduling.ensemble.plan import Plan

    Outcome = Mapping[str, Tensor] | BaseException


class StepHandle(Protocol):
    """The right to use a composing model's version until it is released."""

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Queue a request; raises NaiadError if it is not accepted."""
        ...

    def release(self) -> None:
        """Give the right back."""
        ...


class StepModel(Protocol):
    """A composing model's version, as an ensemble is bound to it."""

    @property
    def config(self) -> ModelConfig:
        """Its complete config."""
        ...

    def acquire(self) -> StepHandle:
        """A handle on it; an unload waits until it is released."""
        ...


class BoundStep(NamedTuple):
    """A step, the model that runs it, and the gate before it."""

    step: EnsembleStep
    model: StepModel
    gate: StepGate


class EnsembleRun:
    """Starts each step as soon as its inputs are there, and ends once: complete, failed, or given up.

    It belongs to the event loop's thread. While it is at work it holds a handle on the model of every step
    that it needs, so none of them is unloaded under it. What a step gives is what the next one gets: the same
    memory.
    """

    def __init__(
        self,
        ensemble: str,
        request: InferRequest,
        steps: Sequence[BoundStep],
        plan: Plan,
        *,
        order: SequenceOrder,
        ended: Callable[[EnsembleRun, Outcome], None],
    ) -> None:
        """Take the handles, and the last place in the request's sequence if it has one.

        Args:
            ensemble: its name, for errors.
            request: the ensemble's, validated.
            steps: all of them; only those of the plan are run.
            plan: what is needed.
            order: in which requests of one sequence enter the steps; this one joins it.
            ended: called once, unless the run is given up, with the tensors that are left, all outputs among
                them, or with the error.
        """
        self.request = request
        self.input_ns = self.infer_ns = self.output_ns = 0
        self.is_over = False
        self._ensemble = ensemble
        self._steps = steps
        self._plan = plan
        self._ended = ended
        self._progress = Progress(plan)
        self._handles = {index: steps[index].model.acquire() for index in plan.steps}
        self._place = order.join(request.sequence_id, plan.steps) if request.sequence_id else None
        self._futures: dict[int, asyncio.Future[InferResponse]] = {}

    def __repr__(self) -> str:
        return (
            f"<EnsembleRun {self._ensemble} {self.request.request_id!r} at work in {sorted(self._futures)}>"
        )

    def begin(self, inputs: Mapping[str, Tensor]) -> None:
        """Start with the ensemble's inputs, those left out among them."""
        self._advance(inputs)

    def give_up(self) -> None:
        """End without an outcome: waiting steps leave their queues, of running ones the results are dropped.

        Safe to call twice.
        """
        if self.is_over:
            return
        self.is_over = True
        for index in self._plan.steps:
            self._steps[index].gate.give_up((self, index))
        for future in list(self._futures.values()):
            future.cancel()
        for handle in self._handles.values():
            handle.release()
        if self._place is not None:
            self._place.leave()
        self._progress.tensors.clear()

    def _advance(self, tensors: Mapping[str, Tensor]) -> None:
        for index in self._progress.give(tensors):
            if self.is_over:  # a step that was refused at once
                return
            if self._place is None:
                self._queue(index)
            else:
                self._place.enter(index, partial(self._queue, index))
        if self._progress.is_complete and not self.is_over:
            self._end(dict(self._progress.tensors))

    def _queue(self, index: int) -> None:
        """Start a step whose turn it is in its sequence, once there is room in it."""
        if not self.is_over:  # while its turn was on its way
            self._steps[index].gate.enter((self, index), partial(self._start, index))

    def _start(self, index: int) -> None:
        step, model, gate = self._steps[index]
        if self.is_over:  # while its turn was on its way
            gate.leave()
            return
        try:
            request = self._request(step, model.config, self._plan.steps[index])
            future = self._handles[index].submit(request)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this caller alone
            gate.leave()
            self._fail(error)
            return
        self._futures[index] = future
        future.add_done_callback(partial(self._step_done, index))
        if self._place is not None:
            self._place.entered(index)

    def _request(self, step: EnsembleStep, config: ModelConfig, outputs: tuple[str, ...]) -> InferRequest:
        tensors = self._progress.take(set(step.inputs.values()))
        dims = {spec.name: spec.dims for spec in config.inputs}
        batched = config.max_batch_size > 0
        inputs = {}
        for ours, theirs in step.inputs.items():
            array = pass_on(tensors[theirs], dims[ours], batched=batched)
            if array is not None:
                inputs[ours] = array
        return step_request(self.request, config, inputs, outputs)

    def _step_done(self, index: int, future: asyncio.Future[InferResponse]) -> None:
        step, model, gate = self._steps[index]
        del self._futures[index]
        gate.leave()
        error = CancelledError("the step was cancelled") if future.cancelled() else future.exception()
        if self.is_over:
            return
        if error is not None:
            self._fail(error)
            return
        response = future.result()
        times = response.times
        self.input_ns += times.compute_input_ns
        self.infer_ns += times.infer_ns
        self.output_ns += times.compute_output_ns
        batched = model.config.max_batch_size > 0
        self._progress.step_ended()
        self._advance(
            {step.outputs[name]: Tensor(array, batched) for name, array in response.outputs.items()}
        )

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, NaiadError):
            told = copy(error)  # other callers of the same batch may share it
            told.args = (f"in ensemble '{self._ensemble}', {error.message}",)
            error = told
        self._end(error)

    def _end(self, outcome: Outcome) -> None:
        self.give_up()
        self._ended(self, outcome)
