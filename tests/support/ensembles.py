"""Ensembles for tests: configs, models that a test steers as steps, and texts of `config.pbtxt`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from naiad.config.ensemble_config import EnsembleScheduling, EnsembleStep
from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.tensors import InferResponse, InferTimes, ModelKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from naiad.core.tensors import Array, InferRequest


def tensors(*names: str, dims: tuple[int, ...] = (2,)) -> tuple[TensorConfig, ...]:
    """FP32 tensors of one shape."""
    return tuple(TensorConfig(name, DataType.FP32, dims) for name in names)


def step(model: str, reads: Mapping[str, str], writes: Mapping[str, str], version: int = -1) -> EnsembleStep:
    """A step; both maps go from the model's own tensor to the ensemble's."""
    return EnsembleStep(model, version, dict(reads), dict(writes))


def ensemble_config(
    name: str,
    reads: Sequence[str],
    writes: Sequence[str],
    *steps: EnsembleStep,
    max_inflight_requests: int = 0,
    **changes: Any,
) -> ModelConfig:
    """The config of an ensemble over FP32 tensors of two, up to four a batch."""
    values: dict[str, Any] = {
        "name": name,
        "max_batch_size": 4,
        "inputs": tensors(*reads),
        "outputs": tensors(*writes),
        "platform": "ensemble",
        "backend": "",
        "ensemble": EnsembleScheduling(steps, max_inflight_requests),
    }
    return ModelConfig(**(values | changes))


class FakeModel:
    """A composing model that answers when the test says so.

    `requests` are those that came, in order, `handles` how many handles are out. With `compute` it answers
    each at once with what that makes of the inputs.
    """

    def __init__(
        self, config: ModelConfig, compute: Callable[[dict[str, Array]], dict[str, Array]] | None = None
    ) -> None:
        self.config = config
        self.requests: list[InferRequest] = []
        self.futures: list[asyncio.Future[InferResponse]] = []
        self.handles = 0
        self.refusal: Exception | None = None
        self._compute = compute

    def acquire(self) -> FakeModel:
        """A handle, which is the model itself."""
        self.handles += 1
        return self

    def release(self) -> None:
        """Give a handle back."""
        self.handles -= 1

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Take a request, or refuse it with `refusal`."""
        if self.refusal is not None:
            raise self.refusal
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        self.requests.append(request)
        self.futures.append(future)
        if self._compute is not None:
            self.answer(-1, **self._compute(request.inputs))
        return future

    def answer(self, index: int = -1, /, **outputs: Array) -> None:
        """Answer a request: 1 ns of placing, 2 of running, 3 of splitting."""
        times = InferTimes(10, 20, 21, 23, 26)
        response = InferResponse(ModelKey(self.config.name, 1), outputs, times=times)
        self.futures[index].set_result(response)

    def fail(self, error: Exception, index: int = -1) -> None:
        """Fail a request."""
        self.futures[index].set_exception(error)


def plain_config(
    name: str, reads: Sequence[str] = ("IN",), writes: Sequence[str] = ("OUT",), **changes: Any
) -> ModelConfig:
    """The config of a model over FP32 tensors of two, up to four a batch."""
    values: dict[str, Any] = {
        "name": name,
        "max_batch_size": 4,
        "inputs": tensors(*reads),
        "outputs": tensors(*writes),
    }
    return ModelConfig(**(values | changes))


async def settle() -> None:
    """Let the loop do what is ready, callbacks of callbacks too."""
    for _ in range(10):
        await asyncio.sleep(0)


def ensemble_text(
    *steps: tuple[str, Mapping[str, str], Mapping[str, str]],
    reads: Sequence[str],
    writes: Sequence[str],
    max_batch_size: int = 8,
    datatype: str = "TYPE_FP32",
    dims: str = "[ 4 ]",
    version: int = -1,
    more: str = "",
    scheduling: str = "",
) -> str:
    """A `config.pbtxt`; each step is its model and two maps from the model's tensors to the ensemble's."""
    lines = [f'platform: "ensemble" max_batch_size: {max_batch_size} {more}']
    for side, names in (("input", reads), ("output", writes)):
        lines += [f'{side} {{ name: "{name}" data_type: {datatype} dims: {dims} }}' for name in names]
    lines.append(f"ensemble_scheduling {{ {scheduling}")
    for model, inputs, outputs in steps:
        lines.append(f'step {{ model_name: "{model}" model_version: {version}')
        for key, mapped in (("input_map", inputs), ("output_map", outputs)):
            lines += [f'{key} {{ key: "{ours}" value: "{theirs}" }}' for ours, theirs in mapped.items()]
        lines.append("}")
    return "\n".join([*lines, "}"])
