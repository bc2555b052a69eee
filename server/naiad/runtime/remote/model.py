"""What another server says of a model: its tensors, its batches, its versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from naiad.config.message_view import WEIGHTS
from naiad.core.datatypes import DataType
from naiad.core.errors import EngineTimeoutError, InternalError, NotFoundError, UnavailableError
from naiad.core.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from naiad.runtime.remote.fleet import Fleet, Host


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """One version of a model on another server, as that describes it.

    `inputs` and `outputs` have the full shapes of its graph; `reshaped` are, by input, the dims that requests
    have in their place where its config reshapes them. `versions` are those that are ready there, ascending.
    `message` is the server's `ModelConfig` message.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional_inputs: frozenset[str]
    max_batch_size: int
    versions: tuple[int, ...]
    message: Any
    reshaped: Mapping[str, tuple[int, ...]]

    @property
    def has_sequences(self) -> bool:
        """Whether its requests belong to sequences."""
        return bool(self.message.HasField("sequence_batching"))

    @property
    def weights(self) -> str:
        """The digest of what it computes with, where the server tells that; else empty."""
        parameters = self.message.parameters
        return str(parameters[WEIGHTS].string_value) if WEIGHTS in parameters else ""

    @property
    def is_decoupled(self) -> bool:
        """Whether a request may have more answers than one."""
        return bool(self.message.model_transaction_policy.decoupled)


def describe(fleet: Fleet, name: str, version: str) -> RemoteModel:
    """Ask for a model's metadata and config.

    Args:
        fleet: the servers; the first one that has it tells.
        name: the model's.
        version: its version, empty for whichever the server chooses.

    Raises:
        NotFoundError: no server has it.
        UnavailableError: it is not ready, or no server is there; with the reason.
        NaiadError: whatever else the server says.
    """
    return fleet.attempt(lambda host: _describe(host, name, version))


def _describe(host: Host, name: str, version: str) -> RemoteModel:
    metadata = _ask(
        host, "ModelMetadata", pb.ModelMetadataRequest(name=name, version=version), pb.ModelMetadataResponse
    )
    config = _ask(
        host, "ModelConfig", pb.ModelConfigRequest(name=name, version=version), pb.ModelConfigResponse
    ).config
    return RemoteModel(
        name=name,
        version=version,
        inputs=tuple(_specs(metadata.inputs, config.input)),
        outputs=tuple(_specs(metadata.outputs, config.output)),
        optional_inputs=frozenset(entry.name for entry in config.input if entry.optional),
        max_batch_size=config.max_batch_size,
        versions=tuple(sorted(int(text) for text in metadata.versions if text.isdecimal())),
        message=config,
        reshaped={entry.name: tuple(entry.dims) for entry in config.input if entry.HasField("reshape")},
    )


def missing_hosts(fleet: Fleet, name: str, version: str) -> dict[str, str]:
    """Why which of the servers do not have a model ready."""
    missing = {}
    for host in fleet.hosts:
        try:
            _describe(host, name, version)
        except (NotFoundError, UnavailableError) as error:
            missing[host.address] = error.message
    return missing


def ready_models(fleet: Fleet) -> dict[str, tuple[int, ...]]:
    """The versions that are ready of each model, ascending.

    Raises:
        NaiadError: no server tells.
    """
    request = pb.RepositoryIndexRequest(ready=True)
    index = fleet.attempt(lambda host: _ask(host, "RepositoryIndex", request, pb.RepositoryIndexResponse))
    found: dict[str, list[int]] = {}
    for entry in index.models:
        versions = found.setdefault(entry.name, [])
        if entry.version.isdecimal():
            versions.append(int(entry.version))
    return {name: tuple(sorted(versions)) for name, versions in found.items()}


def _ask(host: Host, method: str, request: Any, response_type: Any) -> Any:
    """As `Host.call`; one that does not answer in time is away: what is asked here another one can tell."""
    try:
        return host.call(method, request, response_type)
    except EngineTimeoutError as error:
        raise UnavailableError(error.message) from None


def _specs(tensors: Iterable[Any], entries: Iterable[Any]) -> Iterable[TensorSpec]:
    """The tensors with their graph's shapes: metadata has those of requests."""
    reshapes = {entry.name: entry for entry in entries if entry.HasField("reshape")}
    for tensor in tensors:
        datatype = DataType.from_wire_name(tensor.datatype)
        if datatype is None:
            raise InternalError(f"tensor '{tensor.name}' has the unknown datatype {tensor.datatype}")
        shape = tuple(tensor.shape)
        if tensor.name in reshapes:
            entry = reshapes[tensor.name]
            shape = (*shape[: len(shape) - len(entry.dims)], *entry.reshape.shape)
        yield TensorSpec(tensor.name, datatype, shape)


def without_files(message: Any) -> Any:
    """A copy of a server's config that names no files of that server's: samples, labels, states."""
    copy = model_config_pb2.ModelConfig()
    copy.CopyFrom(message)
    del copy.model_warmup[:]
    for output in copy.output:
        output.label_filename = ""
    return copy
