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

    from naiad.core.tensors import InferResponse
    from naiad.lifecycle.version import ModelHandle
    from naiad.services.triton import Admitted, TritonService
    from naiad.services.wire.plan import InferPlan


class Started(NamedTuple):
    """A request that was handed to its model; cancelling `future` takes it back."""

    future: asyncio.Future[InferResponse]
    plan: InferPlan
    id_field: bytes

    def reply(self, max_bytes: int) -> bytes:
        """The answer as a serialized `ModelInferResponse`; raises what the model raised."""
        return self.plan.reply(self.future.result(), self.id_field, max_bytes)

    def stream_reply(self, max_bytes: int) -> bytes:
        """The answer as a serialized `ModelStreamInferResponse`; raises what the model raised."""
        return self.plan.stream_reply(self.future.result(), self.id_field, max_bytes)


class PlannedRequests:
    """Starts what it has a plan for, and learns from what went the long way.

    Used on the event loop's thread.
    """

    def __init__(self, triton: TritonService) -> None:
        self._triton = triton
        self._plans = InferPlans()

    def start(self, data: bytes, deadline_ns: int | None) -> Started | None:
        """Hand a serialized `ModelInferRequest` to its model.

        Args:
            data: the message; the request's tensors are views of it.
            deadline_ns: the caller's deadline on the monotonic clock.

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
        try:
            handle = self._triton.acquire_version(plan.model_name, plan.version)
        except NaiadError:
            return None
        try:
            request = plan.request(data, scanned, deadline_ns) if handle.config is plan.config else None
            if request is None:
                handle.release()
                return None
            future = handle.submit(request)
        except BaseException:
            handle.release()
            raise
        if future.done():
            handle.release()
        else:
            future.add_done_callback(partial(_release, handle))
        return Started(future, plan, scanned.id_field)

    def learn(self, data: bytes, message: pb.ModelInferRequest, admitted: Admitted) -> None:
        """Keep what an accepted request shows of its kind; `message` is `data`, parsed."""
        version = parse_version(message.model_version)
        self._plans.learn(data, message, admitted.request, version, admitted.config)


def _release(handle: ModelHandle, _: object) -> None:
    handle.release()
