"""What the server says of itself and its models: metadata, statistics, index. Messages only, no RPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad import __version__
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD
from naiad.lifecycle.states import ReadyState
from naiad.services.status import titled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.config.server_config import ServerConfig
    from naiad.lifecycle.manager import Model, ModelManager
    from naiad.lifecycle.version import ModelHandle, ServingVersion
    from naiad.telemetry.statistics import Duration

EXTENSIONS = ("model_repository", "model_configuration", "binary_tensor_data", "parameters", "statistics")
"""The protocol extensions that this server serves."""


def server_metadata(config: ServerConfig) -> pb.ServerMetadataResponse:
    """Name, version, extensions."""
    return pb.ServerMetadataResponse(name=config.server_id, version=__version__, extensions=EXTENSIONS)


def model_metadata(
    handle: ModelHandle, ready: Sequence[int], request: pb.ModelMetadataRequest
) -> pb.ModelMetadataResponse:
    """One model's inputs and outputs, batch dimension included; the versions that are ready."""
    config = handle.config
    versions = [handle.key.version] if request.version else ready
    return pb.ModelMetadataResponse(
        name=request.name,
        versions=[str(version) for version in versions],
        platform=config.platform or config.backend,
        inputs=_tensors(config.inputs, config),
        outputs=_tensors(config.outputs, config),
    )


def _tensors(
    specs: Iterable[TensorConfig], config: ModelConfig
) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    batch = (WILDCARD,) if config.max_batch_size > 0 else ()
    return [
        pb.ModelMetadataResponse.TensorMetadata(
            name=spec.name, datatype=spec.datatype.value, shape=(*batch, *spec.dims)
        )
        for spec in specs
    ]


def provider_metadata(handle: ModelHandle) -> tuple[tuple[str, str], ...]:
    """Trailing metadata: the execution providers in use, and each fallback's reason."""
    entries = [("naiad-execution-providers", ",".join(handle.execution_providers))]
    entries += [("naiad-fallback", sentence) for sentence in handle.fallbacks]
    # gRPC takes printable ASCII only, and a fallback quotes the model's name.
    return tuple((key, value.encode("ascii", "backslashreplace").decode()) for key, value in entries)


def model_statistics(manager: ModelManager, name: str, version: int | None) -> pb.ModelStatisticsResponse:
    """Statistics of one model, one version of it, or, without a name, of every ready version.

    Raises:
        InvalidArgumentError: the model or the version is not ready.
    """
    if not name:
        found = [serving for each in manager.model_names() for serving in manager.ready_versions(each)]
        return pb.ModelStatisticsResponse(model_stats=[_statistics(serving) for serving in found])
    ready = manager.ready_versions(name)
    if not ready:
        raise InvalidArgumentError(f"requested model '{name}' is not available")
    found = [serving for serving in ready if version in (None, serving.key.version)]
    if not found:
        raise InvalidArgumentError(f"requested model version is not available for model '{name}'")
    return pb.ModelStatisticsResponse(model_stats=[_statistics(serving) for serving in found])


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)


def _statistics(serving: ServingVersion) -> pb.ModelStatistics:
    counted = serving.statistics
    return pb.ModelStatistics(
        name=serving.key.name,
        version=str(serving.key.version),
        last_inference=counted.last_inference_ms,
        inference_count=counted.inference_count,
        execution_count=counted.execution_count,
        inference_stats=pb.InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.queue),
            compute_input=_duration(counted.compute_input),
            compute_infer=_duration(counted.compute_infer),
            compute_output=_duration(counted.compute_output),
            cache_hit=pb.StatisticDuration(),
            cache_miss=pb.StatisticDuration(),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_duration(row.compute_input),
                compute_infer=_duration(row.compute_infer),
                compute_output=_duration(row.compute_output),
            )
            for size, row in sorted(counted.batches.items())
        ],
    )


def repository_index(manager: ModelManager, *, ready_only: bool) -> pb.RepositoryIndexResponse:
    """One entry a version; a model whose folder could not be read has one entry with only its name."""
    response = pb.RepositoryIndexResponse()
    for model in manager.models():
        _index_model(response, model, ready_only=ready_only)
    return response


def _index_model(response: pb.RepositoryIndexResponse, model: Model, *, ready_only: bool) -> None:
    if not model.versions and not ready_only:
        response.models.add(name=model.name)
    for number, entry in sorted(model.versions.items()):
        if ready_only and entry.state is not ReadyState.READY:
            continue
        response.models.add(
            name=model.name, version=str(number), state=entry.state.value, reason=titled(entry.reason)
        )
