"""Ragged batches in domain terms: the inputs made of a batch's shapes, the outputs cut by them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naiad.core.datatypes import DataType

MAX_RAGGED_BATCH_BYTES = 256 * 2**20
"""Of all ragged inputs of a batch, by default; a request alone may have more."""


class BatchInputKind(Enum):
    """What a batch input says about the requests of its batch; the value is the config's name for it."""

    ELEMENT_COUNT = "BATCH_ELEMENT_COUNT"  # [requests]: how many elements each has
    ACCUMULATED = "BATCH_ACCUMULATED_ELEMENT_COUNT"  # [requests]: where the elements of each end
    ACCUMULATED_WITH_ZERO = "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO"  # [requests + 1]: and the first begin
    MAX_AS_SHAPE = "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE"  # [most elements of a request], zeros
    ITEM_SHAPE = "BATCH_ITEM_SHAPE"  # [items, dims]: each item's shape
    ITEM_SHAPE_FLATTEN = "BATCH_ITEM_SHAPE_FLATTEN"  # [items * dims]: the same, end to end


@dataclass(frozen=True, slots=True)
class BatchInput:
    """A model input that no client sends: the server makes it of the shapes that `source` has in a batch.

    Each of `target_names` gets the same tensor, of `datatype` INT32 or FP32.
    """

    kind: BatchInputKind
    target_names: tuple[str, ...]
    datatype: DataType
    source: str


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """Model outputs whose elements lie end to end, each request's as many as the shape of `source` says.

    A dimension of the output's dims that may have any size is as large as the same one of the request's
    input.
    """

    target_names: tuple[str, ...]
    source: str
