"""Rows of pixels through a model: in its batches' own memory where that may be, and all at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from naiad.core.tensors import InferRequest
from naiad.dataplane.faces.rows import batches_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from naiad.core.tensors import Array, InferResponse, TensorSink, TensorSource
    from naiad.dataplane.decode_pool import DecodePool
    from naiad.dataplane.faces.images import HeldPixels
    from naiad.dataplane.faces.rows import Row, RowBatch
    from naiad.dataplane.faces.times import StageTimes
    from naiad.dataplane.inference import DataPlane
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.images import ImageLimits

Result = TypeVar("Result")

CPU = "CPUExecutionProvider"


class Workshop(NamedTuple):
    """What the stages of all requests share."""

    dataplane: DataPlane
    pool: DecodePool
    limits: ImageLimits
    held: HeldPixels


class Stage(NamedTuple):
    """One model's part in one request: the right to use it, how long it may take, and how long it took."""

    workshop: Workshop
    handle: ModelHandle
    deadline_ns: int | None
    times: StageTimes


class Prepared(NamedTuple):
    """One request of rows for a model. `tensor` is a placeholder if `is_deferred`."""

    batch: RowBatch
    tensor: Array
    is_deferred: bool


def may_defer(handle: ModelHandle) -> bool:
    """Whether a model's pictures are written where and when its batches are formed.

    On a CPU the thread of an instance would wait for these pixels anyway. A GPU must not.
    """
    return handle.defers and handle.execution_providers == (CPU,)


def prepare(stage: Stage, rows: Sequence[Row]) -> list[Prepared]:
    """Requests of rows, pixels written unless they may wait. For a thread of the decode pool."""
    defers = may_defer(stage.handle)
    prepared = []
    for batch in batches_of(rows, stage.handle.config.max_batch_size):
        is_deferred = defers and all(row.may_wait for row in batch.rows)
        tensor = batch.placeholder() if is_deferred else batch.tensor()
        stage.times.preprocess_ns += batch.written_ns
        prepared.append(Prepared(batch, tensor, is_deferred))
    return prepared


async def infer(stage: Stage, prepared: Sequence[Prepared]) -> list[InferResponse]:
    """Hand all requests to the model at once, neighbours in its queue, and wait for all answers.

    Raises:
        NaiadError: the first error among them; the others are taken back.
    """
    handle, dataplane, times = stage.handle, stage.workshop.dataplane, stage.times
    requests = [
        request_of(stage, each.tensor, len(each.batch.rows), each.batch if each.is_deferred else None)
        for each in prepared
    ]
    if len(requests) == 1:
        responses = [await dataplane.infer(handle, requests[0])]
    else:
        responses = await together(dataplane.infer(handle, request) for request in requests)
    written_ns = 0
    for each, response in zip(prepared, responses, strict=True):
        own_ns = each.batch.written_ns if each.is_deferred else 0
        times.add_response(response, own_ns)
        written_ns = max(written_ns, own_ns)
    times.preprocess_ns += written_ns
    return responses


def request_of(
    stage: Stage, tensor: Array, rows: int, source: TensorSource | None = None, sink: TensorSink | None = None
) -> InferRequest:
    """A request for a vision model.

    Args:
        stage: which one, and how long it may take.
        tensor: its input, a placeholder where there is a source.
        rows: pictures in it.
        source: where the input's values come from.
        sink: where the outputs go.
    """
    handle = stage.handle
    config = handle.config
    assert config.vision is not None
    assert handle.vision is not None
    name = config.vision.input.tensor
    return InferRequest(
        model_name=config.name,
        version=handle.key.version,
        inputs={name: tensor},
        outputs=tuple(handle.vision.output_names),
        batch_size=rows,
        deadline_ns=stage.deadline_ns,
        sources=None if source is None else {name: source},
        sink=sink,
    )


async def together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of works that are done at once, in order; the first error ends them all."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # Not a TaskGroup: its ExceptionGroup would hide the error that the caller must be told.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
