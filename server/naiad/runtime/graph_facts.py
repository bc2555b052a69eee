"""What a model file tells beside its inputs and outputs: its metadata, and how it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import onnx
from google.protobuf.message import DecodeError

from naiad.runtime.graph import MAX_PARSED_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NORMALISING = frozenset({"Add", "BatchNormalization", "Div", "Mul", "Sub"})
_PASSING = frozenset({"Cast", "Constant", "Identity", "Transpose", "Unsqueeze"})
"""Operators that pixels pass on their way to the first one that changes them."""


class FileFacts(NamedTuple):
    """`normalises`: arithmetic is the first thing done to pixels. `metadata`: the texts of its exporter."""

    normalises: bool
    metadata: Mapping[str, str]


def read_facts(path: Path) -> FileFacts | None:
    """Read an ONNX file without its external weights; None where that cannot be done cheaply, or at all."""
    try:
        if path.stat().st_size > MAX_PARSED_BYTES:
            return None
        model = onnx.ModelProto.FromString(path.read_bytes())
    except (OSError, DecodeError):
        return None
    first = next((node.op_type for node in model.graph.node if node.op_type not in _PASSING), "")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return FileFacts(first in _NORMALISING, metadata)
