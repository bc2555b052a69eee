"""Requests of a kind that was seen before, from their bytes to the model's queue."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import NaiadError
from naiad.services.conversion import parse_version
from naiad.services.wire.plan import InferPlans

if TYPE_CHECKING:
    import asyncio

    from tritonclient.grpc import service_pb2 as pb

    from naiad.core.tensors import InferRequest, InferResponse
    from naiad.lifecycle.caller import Caller
    from naiad.lifecycle.version import ModelHandle
    from naiad.services.admitted import Admitted
    from naiad.services.triton import TritonService
    from naiad.services.wire.plan import InferPlan
    from naiad.services.wire.scan import Scanned
    from naiad.services.wire.shared import SharedTensors


class Started(NamedTuple):
    """A request that was handed to its model; cancelling `future` takes it back.

    `shared` is the shared memory that its tensors lie in: `release` it at last.
    """

    future: asyncio.Future[InferResponse]
    plan: InferPlan
    id_field: bytes
    shared: SharedTensors

    def reply(self, max_bytes: int) -> bytes:
        """The answer as a serialized `ModelInferResponse`; raises what the model raised.

        What is wanted in shared memory is written to it.
        """
        response = self.future.result()
        self.plan.share(response, self.shared)
        return self.plan.reply(response, self.id_field, max_bytes)

    def stream_reply(self, max_bytes: int) -> bytes:
        """The answer as a serialized `ModelStreamInferResponse`; raises what the model raised."""
        return self.plan.stream_reply(self.future.result(), self.id_field, max_bytes)

    def release(self) -> None:
        """Give the shared memory back. Safe to call twice."""
        self.shared.release()


class PlannedRequests:
    """Starts what it has a plan for, and learns from what went the long way.

    Used on the event loop's thread.
    """

    def __init__(self, triton: TritonService) -> None:
        self._triton = triton
        self._plans = InferPlans()

    def start(
        self, data: bytes, deadline_ns: int | None, caller: Caller, *, shares_outputs: bool = False
    ) -> Started | None:
        """Hand a serialized `ModelInferRequest` to its model.

        Args:
            data: the message; the request's tensors are views of it.
            deadline_ns: the caller's deadline on the monotonic clock.
            caller: who asks, as far as the call says it.
            shares_outputs: take requests whose outputs are wanted in shared memory too; the caller then
                releases what it is given, whatever happens.

        Returns:
            None for whatever must go the long way: an unknown kind, a model that is not there, another config
            than the plan was made with, a fault.

        Raises:
            NaiadError: the model does not take it.
        """
        # What is traced is looked at in full.
        found = None if self._triton.wants_headers else self._plans.find(data)
        if found is None:
            return None
        plan, scanned = found
        if plan.shared_outputs and not shares_outputs:
            return None
        prepared = self._prepare(plan, data, scanned, deadline_ns, caller)
        if prepared is None:
            return None
        plan, handle, request, shared = prepared
        try:
            future = handle.submit(request)
        except BaseException:
            shared.release()
            handle.release()
            raise
        if future.done():
            handle.release()
        else:
            future.add_done_callback(partial(_release, handle))
        if shared.is_deferred:  # all of it is read and written when the future is done, or nobody wants it
            future.add_done_callback(partial(_release_shared, shared))
        return Started(future, plan, scanned.id_field, shared)

    def _prepare(
        self, plan: InferPlan, data: bytes, scanned: Scanned, deadline_ns: int | None, caller: Caller
    ) -> tuple[InferPlan, ModelHandle, InferRequest, SharedTensors] | None:
        """Plan, who answers, what is asked, where the tensors lie; None, nothing held, if one is missing."""
        try:
            handle = self._triton.acquire_version(plan.model_name, plan.version, caller)
        except NaiadError:
            return None
        shared: SharedTensors | None = None
        request: InferRequest | None = None
        fitting = plan.for_config(handle.config)
        try:
            if fitting is not None:
                shared = fitting.lease(self._triton.regions, defers=handle.defers)
                if shared is not None:
                    request = fitting.request(data, scanned, deadline_ns, shared)
                    shared.end_copying()
        except NaiadError:
            pass  # the long way tells it
        finally:
            if request is None:
                if shared is not None:
                    shared.release()
                handle.release()
        if fitting is None or request is None or shared is None:
            return None
        return fitting, handle, request, shared

    def learn(self, data: bytes, message: pb.ModelInferRequest, admitted: Admitted) -> None:
        """Keep what an accepted request shows of its kind; `message` is `data`, parsed."""
        if admitted.request is None:  # pictures: what the model is asked is not in the message
            return
        version = parse_version(message.model_version)
        self._plans.learn(data, message, admitted.request, version, admitted.config)


def _release(handle: ModelHandle, _: object) -> None:
    handle.release()


def _release_shared(shared: SharedTensors, _: object) -> None:
    shared.release()
