"""What an inference answers, before a front end writes it to its wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naiad.core.datatypes import DataType
    from naiad.core.tensors import Array, InferResponse


@dataclass(slots=True)
class AnswerTensor:
    """One output of an answer.

    `array` has the full `shape`; BYTES come as an object array of `bytes`. It is None when the tensor has
    been written to the shared memory that the request named. An output asked for as classes is a BYTES
    tensor already.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    array: Array | None


@dataclass(slots=True)
class InferAnswer:
    """An answered request: who answered, and its outputs sorted by name."""

    model_name: str
    model_version: str
    id: str
    tensors: list[AnswerTensor] = field(default_factory=list)
    response: InferResponse | None = None
