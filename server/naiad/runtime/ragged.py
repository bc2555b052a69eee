"""The graph's view of a ragged batch: elements end to end, and the inputs that say whose they are. Pure.

It lies here and not in `scheduling` because warm-up needs it too.
"""

from __future__ import annotations

import math
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import numpy as np

from naiad.config.ragged_config import BatchInputKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.config.ragged_config import BatchInput
    from naiad.core.tensors import Array

    Shape = tuple[int, ...]


def make_batch_inputs(
    batch_inputs: Sequence[BatchInput], shapes: Sequence[Mapping[str, Shape]]
) -> dict[str, Array]:
    """The tensors that describe a batch, by the names of the graph's inputs.

    Args:
        batch_inputs: the config's.
        shapes: for each request of the batch, in order, the full shapes of its inputs as the graph would
            see them if they were not ragged: the batch dimension first.
    """
    made: dict[str, Array] = {}
    for each in batch_inputs:
        array = _make(each, [request[each.source] for request in shapes])
        made.update(dict.fromkeys(each.target_names, array))
    return made


def _make(batch_input: BatchInput, shapes: Sequence[Shape]) -> Array:
    kind, dtype = batch_input.kind, batch_input.datatype.numpy
    counts = [math.prod(shape) for shape in shapes]
    if kind is BatchInputKind.ELEMENT_COUNT:
        return np.array(counts, dtype)
    if kind is BatchInputKind.ACCUMULATED:
        return np.array(list(accumulate(counts)), dtype)
    if kind is BatchInputKind.ACCUMULATED_WITH_ZERO:
        return np.array(list(accumulate(counts, initial=0)), dtype)
    if kind is BatchInputKind.MAX_AS_SHAPE:
        return np.zeros(max(counts), dtype)
    # A request of several items has them all of one shape.
    items = np.array(list(chain.from_iterable([shape[1:]] * shape[0] for shape in shapes)), dtype)
    return items.reshape(-1) if kind is BatchInputKind.ITEM_SHAPE_FLATTEN else items


def as_ragged(config: ModelConfig, feeds: dict[str, Array]) -> dict[str, Array]:
    """The feeds of one whole batch as its graph takes them, as if each row were a request of its own.

    Args:
        config: complete.
        feeds: full arrays `[rows, ...]` of every input, as of a model without ragged ones; used as they are
            where the model has neither ragged nor batch inputs.
    """
    ragged = [tensor.name for tensor in config.inputs if tensor.ragged and tensor.name in feeds]
    if not ragged and not config.batch_inputs:
        return feeds
    shapes: list[dict[str, Shape]] = [{name: array.shape for name, array in feeds.items()}]
    if config.max_batch_size > 0:
        rows = max(len(array) for array in feeds.values())
        shapes = [{name: (1, *shape[1:]) for name, shape in shapes[0].items()}] * rows
    flat = {name: feeds[name].reshape(-1) for name in ragged}
    return {**feeds, **flat, **make_batch_inputs(config.batch_inputs, shapes)}
