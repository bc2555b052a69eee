"""Coverage-guided fuzzing of HTTP bodies: JSON with binary tensors behind it, inflation, paths."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["naiad"]):
    from naiad.core.errors import NaiadError
    from naiad.services.http import messages, number_text
    from naiad.services.http.compression import inflate
    from naiad.services.http.infer_json import parse_infer
    from naiad.services.http.json_text import parse_object
    from naiad.services.http.routes import route

LIMIT = 2**20
SKELETON = b'{"inputs":[{"name":"INPUT0","datatype":"%b","shape":[%b],"parameters":{%b},"data":[%b]}],"outputs":[%b]}'


def one_input(data: bytes) -> None:
    """The first byte tells what the rest is; only domain errors may leave."""
    kind, rest = data[:1], data[1:]
    try:
        if kind < b"\x30":
            inflate(rest, "gzip" if kind < b"\x18" else "deflate", LIMIT)
        elif kind < b"\x40":
            route(rest)
        elif kind < b"\x60":
            _other_call(kind[0] % 6, rest)
        else:
            _infer(kind[0], rest)
    except NaiadError:
        pass


def _infer(kind: int, data: bytes) -> None:
    length = int.from_bytes(data[:2], "little") % (len(data) + 1)
    text, tail = data[2 : 2 + length], data[2 + length :]
    if kind >= 0xA0:
        parts = (data.split(b"\xff") + [b""] * 5)[:5]
        text, tail = SKELETON % tuple(parts), b""
    request = parse_infer("m", "", text, memoryview(tail), max_input=LIMIT)
    assert len(request.data) == len(request.message.inputs)
    request.message.SerializeToString()


def _other_call(kind: int, text: bytes) -> None:
    body = parse_object(text)
    if kind == 0:
        messages.load_request("", "m", body)
    elif kind == 1:
        messages.unload_request("", "m", body)
    elif kind == 2:
        messages.system_register_request("r", body)
    elif kind == 3:
        messages.cuda_register_request("r", body)
    elif kind == 4:
        messages.trace_request("", body)
    else:
        messages.log_request(body)


if __name__ == "__main__":
    # Short texts take the way of long ones too.
    number_text.LONG = number_text.STEP = 16
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
