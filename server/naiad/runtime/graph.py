"""Reads a model file before the engine does: is it one, and may its weights be folded?"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from naiad.core.errors import InternalError, InvalidArgumentError, UnavailableError
from naiad.runtime.external_data import check_external_data
from naiad.runtime.weights import weight_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from naiad.runtime.weights import WeightFile

MAX_PARSED_BYTES = 1_500_000_000
"""Larger files are left to the engine, which maps them: protobuf ends at 2 GB and parsing needs copies."""

# Below this version every initializer had to be listed as an input, and the engine takes all for constants.
_FIRST_OVERRIDABLE_IR = 4
_ORT_FORMAT_MAGIC = b"ORTM"

# Operators that loop, branch or size their output by the values that they are given, not by their shapes.
_UNEVEN = frozenset(
    {
        "AffineGrid",
        "BlackmanWindow",
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "ConstantOfShape",
        "DFT",
        "Expand",
        "HammingWindow",
        "HannWindow",
        "If",
        "ImageDecoder",
        "Loop",
        "MaxRoiPool",
        "MaxUnpool",
        "MelWeightMatrix",
        "NonMaxSuppression",
        "NonZero",
        "OneHot",
        "Pad",
        "Range",
        "Resize",
        "RoiAlign",
        "STFT",
        "Scan",
        "SequenceMap",
        "Tile",
        "Unique",
        "Upsample",
    }
)
_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model as the engine should be given it.

    `source` is the file's path when nothing had to change, otherwise the changed model. `removed` are the
    initializers that were taken off the graph inputs, `unranked` the inputs and outputs whose shape the file
    does not say, `data_folder` where the weights of a changed model with external data lie. `is_even` says
    that a run's work depends on the shapes of its inputs alone, `has_free_dims` that a dimension of an input
    beside the first may have any size. `files` are all that the model is read from, as they were just before;
    of a file that was not parsed, itself alone.
    """

    source: bytes | str = field(repr=False)
    removed: tuple[str, ...] = ()
    unranked: frozenset[str] = frozenset()
    data_folder: str | None = None
    is_even: bool = False
    has_free_dims: bool = False
    files: tuple[WeightFile, ...] = ()


def prepare_model(
    path: Path, keep_inputs: Collection[str], *, max_parsed_bytes: int = MAX_PARSED_BYTES
) -> PreparedModel:
    """Check a model file and take its initializers off the graph inputs.

    Many published files list their weights as inputs. A caller could then override them, so the engine
    neither folds nor fuses them, and runs such a model several times slower.

    Args:
        path: the ONNX file.
        keep_inputs: initializers that stay overridable, because the config declares them as inputs.
        max_parsed_bytes: files above this size are passed on unread.

    Raises:
        UnavailableError: there is no such file, or it cannot be read.
        InternalError: the file is cut short or not an ONNX model.
        InvalidArgumentError: the file is empty or has no graph, or its weights lie outside
            its folder.
    """
    try:
        own = weight_file(path)
        if own.size > max_parsed_bytes or _is_ort_format(path):
            return PreparedModel(str(path), files=(own,))
        content = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"unable to read model file '{path}': {error.strerror}") from error
    model = _parse(path, content)
    files = (own, *_present(path.parent, check_external_data(model, path.parent)))
    unranked = frozenset(_unranked(model.graph))
    is_even = _is_even(model)
    removed = _take_off_inputs(model, keep_inputs)
    has_free_dims = _has_free_dims(model.graph)
    source: bytes | str = model.SerializeToString() if removed else str(path)
    data_folder = str(path.parent.resolve()) if removed and _has_external_data(model.graph) else None
    return PreparedModel(source, removed, unranked, data_folder, is_even, has_free_dims, files)


def _present(folder: Path, names: Iterable[str]) -> Iterator[WeightFile]:
    """Those of the files with weights that are there: what is missing, the engine says if it needs it."""
    for name in names:
        with suppress(OSError):
            yield weight_file(folder / name, name)


def _is_ort_format(path: Path) -> bool:
    """ONNX Runtime's own format, told by its mark, is optimised when it is made."""
    with path.open("rb") as file:
        return file.read(8)[4:] == _ORT_FORMAT_MAGIC


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    if not content:
        raise InvalidArgumentError(f"model file '{path}' is empty")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        # The words, and the kind, with which the engine and so Triton refuse such a file.
        raise InternalError(
            f"onnx runtime error 7: Load model from {path} failed:Protobuf parsing failed."
        ) from error
    if not model.ir_version or not model.graph.output:
        # Protobuf reads many other files, and files cut at the right byte, as messages without these fields.
        raise InvalidArgumentError(
            f"model file '{path}' ({len(content)} bytes) is not an ONNX model: it has no graph with outputs"
        )
    return model


def _take_off_inputs(model: onnx.ModelProto, keep_inputs: Collection[str]) -> tuple[str, ...]:
    if model.ir_version < _FIRST_OVERRIDABLE_IR:
        return ()
    graph = model.graph
    constants = {initializer.name for initializer in graph.initializer}
    constants |= {initializer.values.name for initializer in graph.sparse_initializer}
    constants -= set(keep_inputs)
    removed = tuple(value.name for value in graph.input if value.name in constants)
    if removed:
        kept = [value for value in graph.input if value.name not in constants]
        del graph.input[:]
        graph.input.extend(kept)
    return removed


def _is_even(model: onnx.ModelProto) -> bool:
    return not model.functions and all(
        node.domain in _STANDARD_DOMAINS and node.op_type not in _UNEVEN for node in model.graph.node
    )


def _has_free_dims(graph: onnx.GraphProto) -> bool:
    return any(
        not dim.HasField("dim_value") for value in graph.input for dim in value.type.tensor_type.shape.dim[1:]
    )


def _unranked(graph: onnx.GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output):
        if not value.type.tensor_type.HasField("shape"):
            yield value.name


def _has_external_data(graph: onnx.GraphProto) -> bool:
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)
