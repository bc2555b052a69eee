"""What the HTTP front end asks of the protocol behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tritonclient.grpc import service_pb2 as pb

    from naiad.lifecycle.caller import Caller
    from naiad.services.answer import InferAnswer
    from naiad.services.calls import Calls
    from naiad.services.contents import Content
    from naiad.telemetry.tracing import FrontEnd


class Triton(Protocol):
    """Triton's protocol without a transport (`services/triton.py`): a method a call, raising NaiadError."""

    @property
    def calls(self) -> Calls:
        """The calls at work."""
        ...

    @property
    def wants_headers(self) -> bool:
        """Whether `infer` has a use for all of a call's headers."""
        ...

    def server_live(self) -> bool:
        """Whether the process answers."""
        ...

    def server_ready(self) -> bool:
        """Whether requests can be sent."""
        ...

    def model_ready(self, name: str, version: str) -> bool:
        """Whether the version answers."""
        ...

    def server_metadata(self) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        ...

    def model_metadata(self, request: pb.ModelMetadataRequest, /) -> pb.ModelMetadataResponse:
        """Inputs, outputs, versions."""
        ...

    def model_config(self, request: pb.ModelConfigRequest, /) -> pb.ModelConfigResponse:
        """The config in force."""
        ...

    def model_statistics(self, request: pb.ModelStatisticsRequest, /) -> pb.ModelStatisticsResponse:
        """Counts and times."""
        ...

    async def repository_index(self, request: pb.RepositoryIndexRequest, /) -> pb.RepositoryIndexResponse:
        """Every known version and its state."""
        ...

    async def load(self, request: pb.RepositoryModelLoadRequest, /) -> pb.RepositoryModelLoadResponse:
        """Load a model."""
        ...

    async def unload(self, request: pb.RepositoryModelUnloadRequest, /) -> pb.RepositoryModelUnloadResponse:
        """Unload a model."""
        ...

    def system_shared_memory_status(
        self, request: pb.SystemSharedMemoryStatusRequest, /
    ) -> pb.SystemSharedMemoryStatusResponse:
        """The regions."""
        ...

    def system_shared_memory_register(
        self, request: pb.SystemSharedMemoryRegisterRequest, /
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Map a region."""
        ...

    def system_shared_memory_unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, /
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Unmap a region, or all."""
        ...

    def cuda_shared_memory_status(
        self, request: pb.CudaSharedMemoryStatusRequest, /
    ) -> pb.CudaSharedMemoryStatusResponse:
        """The regions."""
        ...

    def cuda_shared_memory_register(
        self, request: pb.CudaSharedMemoryRegisterRequest, /
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Open a region."""
        ...

    def cuda_shared_memory_unregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, /
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Close a region, or all."""
        ...

    def trace_setting(self, request: pb.TraceSettingRequest, /) -> pb.TraceSettingResponse:
        """Read or change the trace settings."""
        ...

    def log_settings(self, request: pb.LogSettingsRequest, /) -> pb.LogSettingsResponse:
        """Read or change the log settings."""
        ...

    async def infer(
        self,
        message: pb.ModelInferRequest,
        data: Sequence[Content | None],
        /,
        *,
        headers: Mapping[str, str],
        forwarded: Mapping[str, str] | None,
        front_end: FrontEnd,
        caller: Caller,
    ) -> InferAnswer:
        """Run one request; `data[i]` is what input i holds, None when it lies in shared memory."""
        ...
