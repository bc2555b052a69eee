"""The four stock clients of Triton, driven alike: gRPC and HTTP, each blocking and in asyncio."""

from __future__ import annotations

import inspect
import json
import time
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import np_to_triton_dtype

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from support.processes import ServerProcess

CLIENTS: dict[str, Any] = {
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
}
PATIENCE_S = 20.0
"""How long something that must happen soon may take on a busy machine."""


class Endpoints(NamedTuple):
    """Where a server listens, and its process."""

    grpc: str
    http: str
    metrics: str
    pid: int

    @classmethod
    def of(cls, server: ServerProcess) -> Endpoints:
        """Those of a process that has just been started; waits until it listens."""
        ready = server.wait_for("ready")
        return cls(ready["grpc"], ready["http"], ready["metrics"], server.process.pid)

    def metric(self, family: str, model: str, **labels: str) -> float:
        """A model's value of a metric, 0 where there is none yet."""
        wanted = labels | {"model": model}
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=PATIENCE_S) as response:
            lines = response.read().decode().splitlines()
        for line in lines:
            if line.startswith(f"{family}{{") and all(f'{key}="{wanted[key]}"' in line for key in wanted):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def at_work(self, model: str) -> float:
        """How many requests run or wait, where a batch is one request."""
        return self.metric("naiad_instances_busy", model) + self.metric(
            "nv_inference_pending_request_count", model
        )

    def wait_for_pending(self, model: str, count: int) -> None:
        """Return once so many requests are in the model's queue; AssertionError if that does not come."""
        self._wait_for(lambda: self.metric("nv_inference_pending_request_count", model), model, count)

    def wait_for_work(self, model: str, count: int) -> None:
        """Return once so many requests run or wait; AssertionError if that does not come."""
        self._wait_for(lambda: self.at_work(model), model, count)

    def _wait_for(self, counted: Callable[[], float], model: str, count: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while (found := counted()) != count:
            assert time.monotonic() < until, f"{model} has {found} requests, not {count}"


class ControlServer(NamedTuple):
    """A server that loads models when asked, over a folder that tests may change."""

    endpoints: Endpoints
    repository: Path


class StockClient:
    """One of the four clients; what it answers is awaited where need be."""

    def __init__(self, kind: str, client: Any) -> None:
        self.kind = kind
        self.client = client
        self.over_http = kind.startswith("http")
        self.blocking = not kind.endswith("aio")
        self._module = CLIENTS[kind.removesuffix(".aio")]

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The result of one of its methods."""
        result = getattr(self.client, method)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def json(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """An answer as JSON, which is what HTTP has anyway."""
        return await self.call(method, *args, **kwargs, **({} if self.over_http else {"as_json": True}))

    def input(self, name: str, array: np.ndarray, **kwargs: Any) -> Any:
        """An input with its data."""
        tensor = self._module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, **kwargs)
        return tensor

    def inputs(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        """Inputs by name."""
        return [self.input(name, array) for name, array in arrays.items()]

    def output(self, name: str, **kwargs: Any) -> Any:
        """A requested output."""
        return self._module.InferRequestedOutput(name, **kwargs)

    def compressed(self, algorithm: str) -> dict[str, str]:
        """What makes `infer` compress, and on HTTP ask for a compressed answer."""
        if not self.over_http:
            return {"compression_algorithm": algorithm}
        return dict.fromkeys(("request_compression_algorithm", "response_compression_algorithm"), algorithm)

    def status(self, grpc_code: str, http_code: int) -> str:
        """How it words a status."""
        return str(http_code) if self.over_http else f"StatusCode.{grpc_code}"

    async def infer(self, model: str, arrays: Mapping[str, np.ndarray], **kwargs: Any) -> Any:
        """The result of an inference."""
        return await self.call("infer", model, self.inputs(arrays), **kwargs)

    async def model_config(self, model: str) -> dict[str, Any]:
        """A model's config."""
        answer: dict[str, Any] = await self.json("get_model_config", model)
        return answer if self.over_http else answer["config"]

    async def index(self) -> list[dict[str, str]]:
        """The repository index."""
        answer = await self.json("get_model_repository_index")
        models: list[dict[str, str]] = answer if self.over_http else answer.get("models", [])
        return models

    async def statistics(self, model: str = "") -> list[dict[str, Any]]:
        """What is counted, of one model or of all."""
        answer = await self.json("get_inference_statistics", model)
        models: list[dict[str, Any]] = answer["model_stats"]
        return models

    async def regions(self, kind: str = "system") -> list[str]:
        """The names of the registered regions."""
        answer = await self.json(f"get_{kind}_shared_memory_status")
        entries = answer if self.over_http else answer.get("regions", {}).values()
        return sorted(entry["name"] for entry in entries)


@asynccontextmanager
async def connect(kind: str, server: Endpoints, **options: Any) -> AsyncIterator[StockClient]:
    """One of the four clients, closed in the end; `options` are its own."""
    address = server.http if kind.startswith("http") else server.grpc
    client = CLIENTS[kind].InferenceServerClient(address, **options)
    try:
        yield StockClient(kind, client)
    finally:
        closed = client.close()
        if inspect.isawaitable(closed):
            await closed


def operands(value: int = 1, datatype: Any = np.int32) -> dict[str, np.ndarray]:
    """INPUT0 counts from 0 to 15, INPUT1 is all `value`: the tensors of `simple`."""
    return {
        "INPUT0": np.arange(16, dtype=datatype).reshape(1, 16),
        "INPUT1": np.full((1, 16), value, datatype),
    }


def as_text(array: np.ndarray) -> np.ndarray:
    """Numbers in decimal, as BYTES elements."""
    return np.array([str(value).encode() for value in array.flat], np.object_).reshape(array.shape)


def load_config(**fields: Any) -> str:
    """A config as a load request takes it."""
    return json.dumps(fields)
