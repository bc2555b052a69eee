"""Triton's protocol without a transport: one method a call, for gRPC and HTTP alike.

Messages are Triton's protobuf messages; a front end only reads and writes its wire. Every method raises
`NaiadError`s, which a front end maps by its table (`services/status.py`).
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError, UnavailableError, UnsupportedError
from naiad.lifecycle.caller import NOBODY, ONLOOKER
from naiad.lifecycle.control import LoadOverride
from naiad.services import catalog, settings
from naiad.services.admitted import Admitted
from naiad.services.admitted_pictures import AdmittedPictures
from naiad.services.answer import Placements
from naiad.services.callers import with_parameters
from naiad.services.contents import bind_contents
from naiad.services.conversion import check_declared, is_heavy_request, parse_version, to_domain
from naiad.services.encoded import is_encoded, read_encoded
from naiad.services.off_loop import off_loop
from naiad.services.parameters import read_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.dataplane import DataPlane
    from naiad.dataplane.pictures import PicturePlane
    from naiad.lifecycle.caller import Caller
    from naiad.lifecycle.version import ModelHandle
    from naiad.services.answer import InferAnswer
    from naiad.services.calls import Calls
    from naiad.services.contents import Content
    from naiad.services.shared_memory.regions import Regions
    from naiad.telemetry.log_settings import LogSettings
    from naiad.telemetry.tracing import FrontEnd, TraceManager

_NO_HEADERS: Mapping[str, str] = {}


class TritonService:
    """Answers the calls of Triton's protocol. Used on the event loop's thread."""

    def __init__(
        self,
        dataplane: DataPlane,
        *,
        calls: Calls,
        regions: Regions,
        pictures: PicturePlane,
        traces: TraceManager,
        logs: LogSettings,
        server_id: str,
        strict_readiness: bool,
    ) -> None:
        """Create the service.

        Args:
            dataplane: where requests are run.
            calls: the calls at work, counted by the front ends.
            regions: the registered shared memory.
            pictures: decodes the image files that models accept in place of numbers.
            traces: which requests are traced.
            logs: what is logged.
            server_id: the server's name in its metadata.
            strict_readiness: ready only when every model is.
        """
        self.calls = calls
        self.regions = regions
        self._dataplane = dataplane
        self._manager = dataplane.manager
        self._pictures = pictures
        self._traces = traces
        self._logs = logs
        self._server_id = server_id
        self._strict_readiness = strict_readiness

    @property
    def wants_headers(self) -> bool:
        """Whether `infer` has a use for the call's headers: a request may be traced."""
        return self._traces.active

    @property
    def has_experiments(self) -> bool:
        """Whether the version that answers a request may be a matter of who asks."""
        return self._manager.has_experiments

    def server_live(self) -> bool:
        """True for as long as the server answers; raises UnavailableError while it exits."""
        if self.calls.is_draining:
            raise UnavailableError("Server exiting")
        return True

    def server_ready(self) -> bool:
        """Whether requests can be sent: every model is loaded, or with lenient readiness the server is up."""
        if not self._dataplane.accepting:
            return False
        return not self._strict_readiness or self._manager.all_ready()

    def model_ready(self, name: str, version: str) -> bool:
        """Whether the version answers; an unknown model is not ready, and no error."""
        return self._manager.is_ready(name, parse_version(version))

    def server_metadata(self) -> pb.ServerMetadataResponse:
        """Name, version and the extensions that are really served."""
        return catalog.server_metadata(self._server_id)

    def acquire(self, name: str, version: str) -> ModelHandle:
        """A handle on the version that a question is about; raises NaiadError."""
        return self._dataplane.acquire(name, parse_version(version), ONLOOKER)

    def acquire_version(self, name: str, version: int | None, caller: Caller) -> ModelHandle:
        """The same for a version that has been read already; None lets the server choose for the caller."""
        return self._dataplane.acquire(name, version, caller)

    def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Names, datatypes and shapes."""
        with self.acquire(request.name, request.version) as handle:
            ready = self._manager.ready_versions(request.name)
            return catalog.model_metadata(handle, [serving.key.version for serving in ready], request)

    def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """The config that is in force: normalised and completed."""
        with self.acquire(request.name, request.version) as handle:
            return pb.ModelConfigResponse(config=handle.config.message)

    def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Counts and times of one model, or of all ready ones."""
        return catalog.model_statistics(self._manager, request.name, parse_version(request.version))

    def batch_reasons(self, request: pb.ModelStatisticsRequest) -> tuple[tuple[str, str], ...]:
        """Why the batches of the model that the request names were formed; see `catalog.reason_metadata`."""
        return catalog.reason_metadata(self._manager, request.name, parse_version(request.version))

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Every version with its state and, if it is not ready, the reason; models not loaded by name."""
        _only_all_repositories(request.repository_name)
        return catalog.repository_index(await self._manager.index(ready_only=request.ready))

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Load a model, or load it anew, from the repository or from what the request brings along."""
        _only_all_repositories(request.repository_name)
        override = _load_override(request)
        self._require_accepting()
        await self._manager.load(request.model_name, override)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Take a model out of service; requests that it has accepted are still answered."""
        _only_all_repositories(request.repository_name)
        dependents = _unload_dependents(request)
        self._require_accepting()
        await self._manager.unload(request.model_name, dependents=dependents)
        return pb.RepositoryModelUnloadResponse()

    def system_shared_memory_status(
        self, request: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        """One region of system shared memory, or all of them."""
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self.regions.system_status(request.name):
            entry = response.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.byte_size
        return response

    def system_shared_memory_register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Open a region by its key."""
        self.regions.register_system(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    def system_shared_memory_unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Forget one region, or all of them."""
        self.regions.unregister_system(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def cuda_shared_memory_status(
        self, request: pb.CudaSharedMemoryStatusRequest
    ) -> pb.CudaSharedMemoryStatusResponse:
        """One region of CUDA memory, or all of them."""
        response = pb.CudaSharedMemoryStatusResponse()
        for region in self.regions.cuda_status(request.name):
            entry = response.regions[region.name]
            entry.name, entry.device_id, entry.byte_size = region.name, region.device_id, region.byte_size
        return response

    def cuda_shared_memory_register(
        self, request: pb.CudaSharedMemoryRegisterRequest
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Open a region of CUDA memory by its handle."""
        self.regions.register_cuda(request.name, request.raw_handle, request.device_id, request.byte_size)
        return pb.CudaSharedMemoryRegisterResponse()

    def cuda_shared_memory_unregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Forget one region of CUDA memory, or all of them."""
        self.regions.unregister_cuda(request.name)
        return pb.CudaSharedMemoryUnregisterResponse()

    def trace_setting(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Read or change which requests are traced, for one model or all."""
        return settings.trace_setting(self._traces, self._is_ready, request)

    def log_settings(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Read or change what is logged."""
        return settings.log_settings(self._logs, request)

    async def infer(
        self,
        message: pb.ModelInferRequest,
        data: Sequence[Content | None] | None = None,
        *,
        deadline_ns: int | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        forwarded: Mapping[str, str] | None = None,
        front_end: FrontEnd | None = None,
        caller: Caller = NOBODY,
    ) -> InferAnswer:
        """Answer one request.

        Args:
            message: its names, shapes and parameters; over gRPC its data too.
            data: the inputs' data when it came beside the message, one entry an input, None for one that
                lies in shared memory.
            deadline_ns: the caller's deadline on the monotonic clock.
            headers: the call's headers by lower-case name; a trace is continued from them.
            forwarded: headers that become parameters of the request.
            front_end: whose timestamps a trace keeps.
            caller: who asks, as far as the call says it.

        Raises:
            NaiadError: what is wrong with the request, or why it was not answered.
        """
        with await self.admit(
            message,
            data,
            deadline_ns=deadline_ns,
            headers=headers,
            forwarded=forwarded,
            front_end=front_end,
            caller=caller,
        ) as admitted:
            return await admitted.answer()

    async def admit(
        self,
        message: pb.ModelInferRequest,
        data: Sequence[Content | None] | None = None,
        *,
        deadline_ns: int | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        forwarded: Mapping[str, str] | None = None,
        front_end: FrontEnd | None = None,
        caller: Caller = NOBODY,
    ) -> Admitted:
        """Validate a request and queue it; what is raised here, the model has not seen. See `infer`."""
        handle = self.acquire_version(
            message.model_name,
            parse_version(message.model_version),
            with_parameters(caller, message.parameters),
        )
        placements = Placements()
        trace = None
        if self._traces.active:
            trace = self._traces.begin(message.model_name, headers, front_end=front_end)
        try:
            config = handle.config
            parameters = read_parameters(message.parameters, forwarded)
            if is_encoded(message, config):
                asked = await read_encoded(
                    message, data, config, parameters, self.regions, deadline_ns=deadline_ns
                )
                placements = Placements.of(message, self.regions)
                return AdmittedPictures(
                    message, handle, placements, trace, asked=asked, pictures=self._pictures
                )
            outputs = check_declared(message, config)
            with ExitStack() as leases:
                # Here and not in a thread: the regions belong to the loop.
                contents = bind_contents(message, data, self.regions, leases)
                convert = partial(
                    to_domain, message, config, parameters, outputs, contents, deadline_ns=deadline_ns
                )
                heavy = is_heavy_request(message, contents)
                request = await off_loop(convert) if heavy else convert()
            placements = Placements.of(message, self.regions)
            if trace is not None:
                trace.start(request, handle.key)
            future = handle.submit(request)
        except BaseException as error:
            placements.release()
            handle.release()
            if trace is not None:
                trace.finish(None, error)
            raise
        return Admitted(
            message, handle, placements, future, trace, request=request, explain=parameters.explain
        )

    def _is_ready(self, name: str) -> bool:
        return self._manager.is_ready(name, None)

    def _require_accepting(self) -> None:
        if not self._dataplane.accepting:
            raise UnavailableError("Server exiting")


def _only_all_repositories(repository_name: str) -> None:
    if repository_name:
        raise UnsupportedError("'repository_name' specification is not supported")


_FILE_PREFIX = "file:"


def _load_override(request: pb.RepositoryModelLoadRequest) -> LoadOverride | None:
    """What the request brings along in place of the repository's files."""
    config: str | None = None
    files: dict[str, bytes] = {}
    for key, parameter in request.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if key == "config":
            if kind != "string_param":
                raise _wrong_load_type(key, "string_param")
            config = parameter.string_param
        elif key.startswith(_FILE_PREFIX):
            if kind != "bytes_param":
                raise _wrong_load_type(key, "bytes_param")
            files[key.removeprefix(_FILE_PREFIX)] = parameter.bytes_param
        else:
            raise InvalidArgumentError(f"unrecognized load parameter '{key}'.")
    return None if config is None and not files else LoadOverride(config, files)


def _wrong_load_type(key: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid value type for load parameter '{key}', expected {expected}.")


def _unload_dependents(request: pb.RepositoryModelUnloadRequest) -> bool:
    dependents = False
    for key, parameter in request.parameters.items():
        if key != "unload_dependents":
            raise InvalidArgumentError(f"unrecognized unload parameter '{key}'.")
        if parameter.WhichOneof("parameter_choice") != "bool_param":
            raise InvalidArgumentError(
                "invalid value type for 'unload_dependents' parameter, expected bool_param."
            )
        dependents = parameter.bool_param
    return dependents
