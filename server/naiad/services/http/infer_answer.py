"""An answer's tensors as JSON, or as binary tensors behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.services.contents import raw_view
from naiad.services.http.json_text import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from naiad.core.tensors import Array
    from naiad.services.answer import AnswerTensor, InferAnswer

STEP = 4_096
"""Elements printed at once: a millisecond's work, as printing holds the interpreter's lock."""


class WrittenAnswer(NamedTuple):
    """A body in parts, and the length of its JSON when binary tensors follow it."""

    parts: list[bytes | memoryview]
    json_bytes: int | None


def is_heavy(answer: InferAnswer, is_binary: Callable[[str], bool]) -> bool:
    """Whether writing it would hold up the event loop."""
    return any(
        tensor.array is not None
        and tensor.array.size > STEP
        and (not is_binary(tensor.name) or tensor.datatype is DataType.BYTES)
        for tensor in answer.tensors
    )


def write_answer(answer: InferAnswer, is_binary: Callable[[str], bool]) -> WrittenAnswer:
    """The body; numeric binary tensors are views of the answer's arrays.

    Raises:
        InvalidArgumentError: a tensor that JSON cannot hold was asked for as JSON.
    """
    tensors: list[bytes] = []
    blocks: list[bytes | memoryview] = []
    for tensor in answer.tensors:
        text, block = _written(tensor, binary=is_binary(tensor.name))
        tensors.append(text)
        if block is not None and len(block):
            blocks.append(block)
    head: dict[str, object] = {"id": answer.id} if answer.id else {}
    head |= {"model_name": answer.model_name, "model_version": answer.model_version}
    if answer.parameters:
        head["parameters"] = answer.parameters
    text = dumps(head)[:-1] + b',"outputs":[' + b",".join(tensors) + b"]}"
    return WrittenAnswer([text, *blocks], len(text) if blocks else None)


def _written(tensor: AnswerTensor, *, binary: bool) -> tuple[bytes, bytes | memoryview | None]:
    """A tensor's JSON, and the block that follows."""
    entry: dict[str, object] = {
        "name": tensor.name,
        "datatype": tensor.datatype.value,
        "shape": tensor.shape,
    }
    if tensor.array is None:  # it lies in shared memory
        return dumps(entry), None
    if binary:
        block = raw_view(tensor.array, tensor.datatype)
        return dumps(entry | {"parameters": {"binary_data_size": len(block)}}), block
    if tensor.datatype in (DataType.FP16, DataType.BF16):
        raise InvalidArgumentError(
            f"sending {tensor.datatype.value} data via JSON is not supported. Please use the binary data "
            f"format for output '{tensor.name}'"
        )
    values = b",".join(_values(tensor.array, tensor.datatype, tensor.name))
    return dumps(entry)[:-1] + b',"data":[' + values + b"]}", None


def _values(array: Array, datatype: DataType, name: str) -> Iterator[bytes]:
    flat = array.reshape(-1)
    for start in range(0, flat.size, STEP):
        values = flat[start : start + STEP].tolist()
        if datatype is DataType.BYTES:
            values = _texts(values, name)
        yield dumps(values)[1:-1]


def _texts(elements: list[bytes], name: str) -> list[str]:
    try:
        return [element.decode("utf-8") for element in elements]
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"output '{name}' holds bytes that are not UTF-8 ({error}): ask for it as binary data"
        ) from None
