"""Triton's protocol over arrays, for front ends under test: `simple` adds and subtracts, others echo.

Models: `simple` (INT32 [16] twice, batches up to 8), `echo_DATATYPE` (INPUT0 [-1] to OUTPUT0, no batches),
`raw` (FP32 [-1], batches up to 8), `matrix` (FP32 [-1, -1]), `word` (BYTES [1]). `slow` echoes when `release`
is set, and counts who was cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, NotFoundError
from naiad.core.tensors import InferResponse, ModelKey
from naiad.services.answer import AnswerTensor, InferAnswer
from naiad.services.calls import Calls
from naiad.services.contents import bytes_array, numeric_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.core.tensors import Array
    from naiad.services.contents import Content


class FakeTriton:
    """Keeps what it was asked, so that tests can look at it."""

    def __init__(self) -> None:
        self.calls = Calls()
        self.wants_headers = False
        self.is_live = self.is_ready = True
        self.asked: list[Any] = []
        self.headers: Mapping[str, str] = {}
        self.forwarded: Mapping[str, str] | None = None
        self.error: Exception | None = None
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    def server_live(self) -> bool:
        return self.is_live

    def server_ready(self) -> bool:
        return self.is_ready

    def model_ready(self, name: str, version: str) -> bool:
        if version and not version.isdigit():
            raise InvalidArgumentError(
                f"failed to get model version from specified version string '{version}'"
            )
        return config_of(name) is not None and version in ("", "1")

    def server_metadata(self) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="triton", version="1.2.3", extensions=["parameters"])

    def _config(self, name: str) -> Any:
        config = config_of(name)
        if config is None:
            raise NotFoundError(f"Request for unknown model: '{name}' is not found")
        return config

    def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        config = self._config(request.name)
        batch = [-1] if config.max_batch_size else []
        answer = pb.ModelMetadataResponse(name=request.name, versions=["1"], platform="onnxruntime_onnx")
        for tensor in config.input:
            answer.inputs.add(name=tensor.name, datatype="INT32", shape=[*batch, *tensor.dims])
        return answer

    def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        return pb.ModelConfigResponse(config=self._config(request.name))

    def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        self.asked.append(request)
        answer = pb.ModelStatisticsResponse()
        answer.model_stats.add(name=request.name or "simple", version="1", inference_count=2**53 + 1)
        return answer

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        self.asked.append(request)
        answer = pb.RepositoryIndexResponse()
        answer.models.add(name="simple", version="1", state="READY")
        if not request.ready:
            answer.models.add(name="unloaded")
        return answer

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        self._ask(request)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        self._ask(request)
        return pb.RepositoryModelUnloadResponse()

    def _ask(self, request: Any) -> None:
        self.asked.append(request)
        if self.error is not None:
            raise self.error

    def system_shared_memory_status(
        self, request: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        self._ask(request)
        answer = pb.SystemSharedMemoryStatusResponse()
        region = answer.regions["region"]
        region.name, region.key, region.offset, region.byte_size = "region", "/key", 0, 64
        return answer

    def system_shared_memory_register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        self._ask(request)
        return pb.SystemSharedMemoryRegisterResponse()

    def system_shared_memory_unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._ask(request)
        return pb.SystemSharedMemoryUnregisterResponse()

    def cuda_shared_memory_status(
        self, request: pb.CudaSharedMemoryStatusRequest
    ) -> pb.CudaSharedMemoryStatusResponse:
        self._ask(request)
        return pb.CudaSharedMemoryStatusResponse()

    def cuda_shared_memory_register(
        self, request: pb.CudaSharedMemoryRegisterRequest
    ) -> pb.CudaSharedMemoryRegisterResponse:
        self._ask(request)
        return pb.CudaSharedMemoryRegisterResponse()

    def cuda_shared_memory_unregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        self._ask(request)
        return pb.CudaSharedMemoryUnregisterResponse()

    def trace_setting(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        self._ask(request)
        answer = pb.TraceSettingResponse()
        answer.settings["trace_level"].value.append("OFF")
        answer.settings["trace_rate"].value.append("1000")
        for key, setting in request.settings.items():
            answer.settings[key].value[:] = setting.value
        return answer

    def log_settings(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        self._ask(request)
        answer = pb.LogSettingsResponse()
        answer.settings["log_info"].bool_param = True
        answer.settings["log_verbose_level"].uint32_param = 0
        for key, setting in request.settings.items():
            answer.settings[key].MergeFrom(
                pb.LogSettingsResponse.SettingValue.FromString(setting.SerializeToString())
            )
        return answer

    async def infer(
        self,
        message: pb.ModelInferRequest,
        data: Sequence[Content | None],
        *,
        headers: Mapping[str, str],
        forwarded: Mapping[str, str] | None,
        front_end: object,
        caller: object = None,
    ) -> InferAnswer:
        self._ask(message)
        self.headers, self.forwarded = headers, forwarded
        config = self._config(message.model_name)
        if message.model_name == "slow":
            await self._wait()
        arrays = [
            read(tensor, each, message.model_name) for tensor, each in zip(message.inputs, data, strict=True)
        ]
        outputs = compute(message.model_name, arrays)
        wanted = {output.name for output in message.outputs} or set(outputs)
        answer = InferAnswer(
            message.model_name, "1", message.id, InferResponse(ModelKey(message.model_name, 1), outputs)
        )
        for name, array in sorted(outputs.items()):
            if name in wanted:
                datatype = DataType.from_config_name(
                    model_config_pb2.DataType.Name(config.output[0].data_type)
                )
                answer.tensors.append(AnswerTensor(name, datatype, array.shape, array))
        return answer

    async def _wait(self) -> None:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def config_of(name: str) -> Any:
    """The config of one of the models; None for others."""
    if name.startswith("echo_"):
        return _config(f"TYPE_{name[5:]}".replace("BYTES", "STRING"), [-1])
    return {
        "simple": lambda: _config("TYPE_INT32", [16], inputs=("INPUT0", "INPUT1"), max_batch_size=8),
        "raw": lambda: _config("TYPE_FP32", [-1], max_batch_size=8),
        "matrix": lambda: _config("TYPE_FP32", [-1, -1]),
        "word": lambda: _config("TYPE_STRING", [1]),
        "slow": lambda: _config("TYPE_FP32", [-1]),
    }.get(name, lambda: None)()


def _config(
    data_type: str, dims: list[int], inputs: Sequence[str] = ("INPUT0",), max_batch_size: int = 0
) -> Any:
    number = model_config_pb2.DataType.Value(data_type)
    config = model_config_pb2.ModelConfig(name="model", max_batch_size=max_batch_size)
    for name in inputs:
        config.input.add(name=name, data_type=number, dims=dims)
        config.output.add(name=name.replace("INPUT", "OUTPUT"), data_type=number, dims=dims)
    return config


def read(tensor: Any, data: Content | None, model: str) -> Array:
    """An input as an array; the checks are those of the real service."""
    assert data is not None
    datatype = DataType(tensor.datatype)
    reader = {"name": tensor.name, "model": model, "prefix": ""}
    if datatype is DataType.BYTES:
        return bytes_array(data, tuple(tensor.shape), **reader)
    assert not isinstance(data, list)
    return numeric_array(data, datatype, tuple(tensor.shape), **reader)


def compute(model: str, arrays: list[Array]) -> dict[str, Array]:
    """The outputs."""
    if model == "simple":
        first, second = arrays
        return {"OUTPUT0": np.add(first, second), "OUTPUT1": np.subtract(first, second)}
    return {"OUTPUT0": arrays[0]}
