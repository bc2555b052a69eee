"""Starts MLServer with two calls of Triton's protocol more: `python mlserver_main.py FOLDER`.

perf_analyzer asks for a model's config before it sends anything, and the benchmark for its counters; MLServer
knows neither. Both answers are bytes: the config as the benchmark wrote it beside the model's settings, the
counters of `mlserver_counters`. Inference goes MLServer's own way.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import grpc
from mlserver.cli import main
from mlserver_counters import COUNTERS

_LENGTH_DELIMITED, _VARINT = 2, 0
# Field numbers of ModelStatisticsResponse and ModelStatistics.
_MODEL_STATS, _NAME, _VERSION, _INFERENCES, _EXECUTIONS = 1, 1, 2, 4, 5


def _field(number: int, value: bytes | int) -> bytes:
    """A field as protobuf writes it; there is no message class, for MLServer's own would collide with it."""
    if isinstance(value, int):
        return bytes([number << 3 | _VARINT]) + _varint(value)
    return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the highest bit set where more follow."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def _model_name(request: bytes) -> str:
    """The first field of the request: its name, shorter than 128 bytes."""
    return request[2 : 2 + request[1]].decode()


async def _statistics(request: bytes, _: Any) -> bytes:
    name = _model_name(request)
    counter = COUNTERS[name]
    values = _field(_NAME, name.encode()) + _field(_VERSION, b"1")
    values += _field(_INFERENCES, counter.inferences) + _field(_EXECUTIONS, counter.executions)
    return _field(_MODEL_STATS, values)


def _with_more_calls(make_server: Any, folder: Path, *args: Any, **kwargs: Any) -> Any:
    """The server as MLServer makes it, with the two calls."""

    async def config(request: bytes, _: Any) -> bytes:
        return (folder / _model_name(request) / "model_config.bin").read_bytes()

    handlers = {
        "ModelConfig": grpc.unary_unary_rpc_method_handler(config),
        "ModelStatistics": grpc.unary_unary_rpc_method_handler(_statistics),
    }
    server = make_server(*args, **kwargs)
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
    server.add_generic_rpc_handlers((service,))
    return server


if __name__ == "__main__":
    models = Path(sys.argv[1])
    grpc.aio.server = functools.partial(_with_more_calls, grpc.aio.server, models)
    sys.argv[1:] = ["start", str(models)]
    main()
