"""HTTP requests as bytes: JSON and binary tensors, lengths, encodings, chunks, and what is wrong with each."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import hypothesis.strategies as st
from fuzz.models import MODELS, Model, text_bytes
from fuzz.strategies import INT64, damaged, datatypes, keys, versions

from naiad.core.datatypes import DataType

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]

HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class HttpRequest:
    """What is written to a connection, and whether it is whole: then it must be answered."""

    data: bytes
    is_whole: bool


surrogates = st.sampled_from(["\ud800", "a\udfff", "\ud83d"])
names = st.one_of(
    st.sampled_from(["simple", "..", "../simple", "a/b", "/etc/passwd", ".", " ..", "\0", "x" * 3_000, "é"]),
    st.text(min_size=1, max_size=12),
)
numbers = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, -(10**30)]),
    st.integers(*INT64),
    st.floats(),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), surrogates, datatypes),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(keys, surrogates), inner, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def infer_bodies(draw: Draw) -> tuple[str, bytes, int | None]:
    """A model's name, the body of a request to it, and the length of its JSON if tensors follow."""
    model: Model = draw(st.sampled_from(MODELS))
    batch = [draw(st.integers(1, 8))] if model.is_batched else []
    is_binary = draw(st.booleans()) or model.name == "half"
    tail = b""
    inputs: list[Any] = []
    for tensor in model.inputs:
        shape = batch + [draw(st.integers(0, 3)) if dim == -1 else dim for dim in tensor.dims]
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}
        count = 1
        for dim in shape:
            count *= dim
        if is_binary:
            itemsize = DataType(tensor.datatype).itemsize
            data = text_bytes(*[b"ab"] * count) if not itemsize else bytes(itemsize * count)
            tail += data
            entry["parameters"] = {"binary_data_size": len(data)}
        else:
            entry["data"] = [{"BYTES": "é", "BOOL": True, "FP32": 1.5}.get(tensor.datatype, 3)] * count
        inputs.append(entry)
    document: dict[str, Any] = {"inputs": inputs}
    if draw(st.booleans()):
        document["outputs"] = [draw(_outputs(name)) for name in model.outputs]
    if model.name == "sequence":
        document["parameters"] = {"sequence_id": draw(st.integers(1, 50)), "sequence_start": True}
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        draw(_mutated(document))
    text = _dumps(draw, document)
    return model.name, text + tail, len(text) if is_binary else None


@st.composite
def _outputs(draw: Draw, name: str) -> dict[str, Any]:
    parameters = draw(
        st.sampled_from(
            [
                {},
                {"binary_data": True},
                {"classification": 3},
                {"classification": 2**40},
                {"shared_memory_region": "region", "shared_memory_byte_size": 512},
            ]
        )
    )
    return {"name": name, "parameters": dict(parameters)}


def _dumps(draw: Draw, value: Any) -> bytes:
    if draw(st.integers(0, 20)) == 0:
        depth: int = draw(st.sampled_from([99, 100, 101, 103, 104, 5_000]))
        return b"[" * depth + b"]" * depth
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    encoded: bytes = text.encode("utf-8", "surrogatepass")
    return encoded


@st.composite
def _mutated(draw: Draw, document: Any) -> None:
    """Change one place of a document, wherever in it."""
    slots: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        items = list(holder.items() if isinstance(holder, dict) else enumerate(holder[:3]))
        slots += [(holder, key) for key, _ in items]
        waiting += [item for _, item in items if isinstance(item, dict | list)]
    if not slots:
        return
    holder, key = draw(st.sampled_from(slots))
    change = draw(st.sampled_from(["set", "set", "set", "delete", "again", "add"]))
    if change == "set":
        holder[key] = draw(json_values)
    elif change == "delete":
        del holder[key]
    elif isinstance(holder, list):
        holder.extend(holder[:1] * draw(st.sampled_from([1, 2_000])))
    else:
        holder[draw(st.one_of(keys, surrogates))] = draw(json_values)


_FIELDS = st.sampled_from(
    [
        "parameters",
        "config",
        "file:1/model.onnx",
        "ready",
        "key",
        "offset",
        "byte_size",
        "raw_handle",
        "b64",
        "device_id",
        "unload_dependents",
        "trace_file",
        "trace_rate",
        "log_file",
        "log_format",
    ]
)


@st.composite
def _calls(draw: Draw) -> tuple[str, str, bytes]:
    """Method, path and body of a call without tensors; none of them changes what the other calls see."""
    name = quote(draw(names), safe=draw(st.sampled_from(["", "/."])))
    version = quote(draw(versions), safe="")
    path = draw(
        st.sampled_from(
            ["", "/health/live", "/health/ready", f"/models/{name}", f"/models/{name}/ready", "/models/stats"]
            + [f"/models/{name}/versions/{version}/{call}" for call in ("ready", "config", "stats", "infer")]
            + [f"/models/simple/versions/{version}", "/models/simple/config", "/models/simple/stats"]
            + ["/models/simple/generate", "/repository/index", f"/repository/{name}/index", "/logging"]
            + [f"/repository/models/no-{name}/{call}" for call in ("load", "unload")]
            + [f"/{kind}sharedmemory/region/{name}/register" for kind in ("system", "cuda")]
            + [f"/{kind}sharedmemory/region/no-{name}/unregister" for kind in ("system", "cuda")]
            + ["/systemsharedmemory/status", f"/models/{name}/trace/setting", "/trace/setting", f"/{name}"]
        )
    )
    method = draw(st.sampled_from(["GET", "POST", "POST", "POST", "HEAD", "PUT", "OPTIONS"]))
    fields = st.dictionaries(
        _FIELDS, st.one_of(json_values, st.dictionaries(_FIELDS, json_values, max_size=2))
    )
    body = _dumps(draw, draw(fields)) if method == "POST" else b""
    return method, f"/v2{path}", body


@st.composite
def http_requests(draw: Draw) -> HttpRequest:
    """One request on a connection of its own."""
    headers = {"Host": "naiad"}
    if draw(st.integers(0, 3)):
        model, body, length = draw(infer_bodies())
        method, path = "POST", f"/v2/models/{model}/infer"
        if length is not None:
            headers[HEADER] = str(length)
    else:
        method, path, body = draw(_calls())
    if draw(st.integers(0, 9)) == 0:
        headers[HEADER] = draw(
            st.sampled_from(
                ["0", "-1", "abc", "1", "99999999999", "9" * 5_000, "", "2147483648", "+5", "1e3"]
            )
        )
    if draw(st.integers(0, 8)) == 0:
        body = draw(damaged(body))
    body = draw(_encoded(body, headers))
    data, is_whole = draw(_framed(method, path, headers, body))
    if draw(st.integers(0, 7)) == 0:
        return HttpRequest(draw(damaged(data)), is_whole=False)
    return HttpRequest(data, is_whole)


@st.composite
def _encoded(draw: Draw, body: bytes, headers: dict[str, str]) -> bytes:
    if draw(st.integers(0, 5)) == 0:
        headers["Accept-Encoding"] = draw(
            st.sampled_from(["gzip", "deflate", "br", "gzip;q=x", "*", "identity;q=0, gzip"])
        )
    encoding = draw(
        st.sampled_from([""] * 20 + ["gzip", "deflate", "raw"] * 2 + ["lie", "bomb", "br", "cut"])
    )
    if not encoding:
        return body
    headers["Content-Encoding"] = "deflate" if encoding in ("deflate", "raw") else "gzip"
    if encoding == "br":
        headers["Content-Encoding"] = "br"
    packed = {"deflate": zlib.compress, "raw": lambda data: zlib.compress(data)[2:-4]}
    if encoding in packed:
        return packed[encoding](body)
    if encoding == "bomb":
        return gzip.compress(bytes(2**20), 9) * 3
    if encoding == "lie":
        return body
    return gzip.compress(body)[: -4 if encoding == "cut" else None]


@st.composite
def _framed(draw: Draw, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[bytes, bool]:
    framing = draw(st.sampled_from(["length"] * 9 + ["chunks"] * 3 + ["short", "long", "both", "none"]))
    if framing == "chunks":
        headers["Transfer-Encoding"] = "chunked"
        step = draw(st.sampled_from([1, 7, 64, 4_096]))
        pieces = (
            [body[start : start + step] for start in range(0, len(body), step)]
            if len(body) < 20_000
            else [body]
        )
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    elif framing != "none":
        wrong = {"short": -1, "long": 1}.get(framing, 0)
        headers["Content-Length"] = str(max(0, len(body) + wrong))
    if framing == "both":
        headers["Transfer-Encoding"] = "chunked"
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    is_whole = framing in ("length", "chunks") or (framing == "none" and not body)
    return head.encode("latin-1") + b"\r\n" + body, is_whole
