"""A request between its admission and its answer: what it holds, and how the answer is made."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Self

from naiad.services.answer import is_heavy_response, make_answer
from naiad.services.explain import explanation
from naiad.services.off_loop import off_loop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from tritonclient.grpc import service_pb2 as pb

    from naiad.config.model_config import ModelConfig
    from naiad.core.datatypes import DataType
    from naiad.core.tensors import InferRequest, InferResponse
    from naiad.lifecycle.version import ModelHandle
    from naiad.services.answer import InferAnswer, Placements
    from naiad.telemetry.tracing import RequestTrace


class Admitted:
    """A request that was accepted and is queued or runs. Leaving it releases what it holds.

    `request` is None, and so is its future, where the model is asked later: see `AdmittedPictures`.
    """

    added_outputs: ClassVar[Mapping[str, DataType]] = MappingProxyType({})
    """What the answer may hold beside the outputs of the config."""

    __slots__ = ("_explain", "_future", "_handle", "_message", "_placements", "_trace", "request")

    def __init__(
        self,
        message: pb.ModelInferRequest,
        handle: ModelHandle,
        placements: Placements,
        future: asyncio.Future[InferResponse] | None,
        trace: RequestTrace | None,
        *,
        request: InferRequest | None,
        explain: bool = False,
    ) -> None:
        self.request = request
        self._message = message
        self._handle = handle
        self._placements = placements
        self._future = future
        self._trace = trace
        self._explain = explain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._future is not None:
            self._future.cancel()
        self._placements.release()
        self._handle.release()

    @property
    def config(self) -> ModelConfig:
        """The config that the request was checked against."""
        return self._handle.config

    async def answer(self) -> InferAnswer:
        """Wait for the model and make the answer.

        Raises:
            NaiadError: why there is none.
        """
        if self._trace is None:
            return await self._answer()
        try:
            answer = await self._answer()
        except BaseException as error:
            self._trace.finish(None, error)
            raise
        self._trace.finish(answer.response, None)
        return answer

    async def _respond(self) -> InferResponse:
        """Wait for the model."""
        assert self._future is not None
        return await self._future

    async def _answer(self) -> InferAnswer:
        response = await self._respond()
        make = partial(
            make_answer,
            response,
            self._message,
            self._handle.config,
            self._placements,
            self._handle.labels,
            added=self.added_outputs,
        )
        # What is written to shared memory is written when this is left, or its region could be gone.
        answer = await off_loop(make) if is_heavy_response(response, self._placements) else make()
        if self._explain:
            answer.parameters = explanation(response, self._handle)
        return answer
