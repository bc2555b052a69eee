"""Batches of made-up requests, the same for the same seed, and single ones kept in files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
from fuzz.http_strategies import HttpRequest, http_requests
from fuzz.strategies import infer_requests, wire_messages
from hypothesis import HealthCheck, Phase
from tritonclient.grpc import service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

STREAM = 4
"""Requests on one stream."""

KINDS: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "infer": (400, infer_requests()),
    "wire": (100, wire_messages()),
    "stream": (75, st.lists(infer_requests(), min_size=STREAM, max_size=STREAM)),
    "http": (200, http_requests()),
}
"""How many of each kind a batch has."""

BATCH = sum(count * (STREAM if kind == "stream" else 1) for kind, (count, _) in KINDS.items())
"""Requests in a batch."""


class Case(NamedTuple):
    """One thing to send. `name` tells seed, batch and place."""

    kind: str
    name: str
    content: Any


def make_batch(seed: int, index: int) -> list[tuple[str, str, bytes]]:
    """Kind, name and packed content of each case of batch `index`, for `unpacked`; messages cannot be pickled."""
    packed: list[tuple[str, str, bytes]] = []
    for kind, (count, strategy) in KINDS.items():
        contents = _examples(strategy, count, f"{seed}/{index}/{kind}")
        packed += [
            (kind, f"{seed}-{index}-{place}", _packed(kind, content))
            for place, content in enumerate(contents)
        ]
    return packed


def _examples(strategy: st.SearchStrategy[Any], count: int, seed: str) -> list[Any]:
    examples: list[Any] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(example: Any) -> None:
        examples.append(example)

    collect()
    return examples


def save_case(folder: Path, case: Case) -> Path:
    """Keep a case in a file that `load_case` reads."""
    path = folder / f"{case.kind}-{case.name}.case"
    path.write_bytes(_packed(case.kind, case.content))
    return path


def load_case(path: Path) -> Case:
    """A kept case."""
    kind, _, name = path.stem.partition("-")
    return unpacked(kind, name, path.read_bytes())


def unpacked(kind: str, name: str, data: bytes) -> Case:
    """A case as it was before it was packed."""
    content: Any = data
    if kind == "infer":
        content = pb.ModelInferRequest.FromString(data)
    elif kind == "http":
        content = HttpRequest(data[1:], is_whole=data[0] == 1)
    elif kind == "stream":
        content = []
        while data:
            (size,) = struct.unpack_from("<I", data)
            content.append(pb.ModelInferRequest.FromString(data[4 : 4 + size]))
            data = data[4 + size :]
    return Case(kind, name, content)


def _packed(kind: str, content: Any) -> bytes:
    if kind == "infer":
        return bytes(content.SerializeToString())
    if kind == "http":
        return bytes([content.is_whole]) + bytes(content.data)
    if kind == "stream":
        messages = [message.SerializeToString() for message in content]
        return b"".join(struct.pack("<I", len(message)) + message for message in messages)
    return bytes(content)
