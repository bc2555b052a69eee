"""Weights in files of their own must lie beside the model: its word is not trusted with the disk."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_external_data(model: onnx.ModelProto, folder: Path) -> tuple[str, ...]:
    """Refuse a model whose weights lie elsewhere than below its own folder, links followed.

    Newer engines check this too, and name what they found.

    Args:
        model: parsed, its external data not read.
        folder: where the model's file lies.

    Returns:
        The files that it names, each once.

    Raises:
        InvalidArgumentError: names the tensor and the location.
    """
    allowed = None
    locations: dict[str, None] = {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        allowed = allowed or folder.resolve()
        for entry in tensor.external_data:
            if entry.key != "location" or entry.value in locations:
                continue
            if not _is_below(allowed, entry.value):
                raise InvalidArgumentError(
                    f"external data {entry.value[:200]!r} of tensor '{tensor.name}' is not inside the folder "
                    "of the model file"
                )
            locations[entry.value] = None
    return tuple(locations)


def _is_below(folder: Path, location: str) -> bool:
    if "\0" in location or Path(location).is_absolute():
        return False
    try:
        return (folder / location).resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # too long; a loop of links
        return False


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph)


def _node_tensors(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    for attribute in chain.from_iterable(node.attribute for node in body.node):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)
