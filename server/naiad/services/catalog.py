"""What the server says of itself and its models: metadata, statistics, index. Messages only, no RPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad import __version__
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD
from naiad.lifecycle.control import titled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.lifecycle.manager import ModelManager
    from naiad.lifecycle.registry import IndexEntry
    from naiad.lifecycle.version import ModelHandle, ServingVersion
    from naiad.telemetry.statistics import Duration

EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""The protocol extensions that this server serves, in Triton's order."""


def server_metadata(server_id: str) -> pb.ServerMetadataResponse:
    """Name, version, extensions."""
    return pb.ServerMetadataResponse(name=server_id, version=__version__, extensions=EXTENSIONS)


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


BATCH_REASONS = "naiad-batch-reasons"
"""Trailing metadata of the statistics of one model, an entry a version: its number, and runs by reason."""

_MAX_VERSIONS = 32  # trailers hold 8 KiB


def reason_metadata(manager: ModelManager, name: str, version: int | None) -> tuple[tuple[str, str], ...]:
    """Trailing metadata: why the batches of a model's versions were formed, as `2 preferred=10 delay=3`.

    Triton's message of statistics has no place for it.
    """
    found = [serving for serving in manager.ready_versions(name) if version in (None, serving.key.version)]
    return tuple((BATCH_REASONS, _reasons(serving)) for serving in found[-_MAX_VERSIONS:])


def _reasons(serving: ServingVersion) -> str:
    counts = (f"{why}={count}" for why, count in serving.statistics.batch_reasons.items() if count)
    return " ".join((str(serving.key.version), *counts))


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
            cache_hit=_duration(counted.cache.hit) if counted.cache else pb.StatisticDuration(),
            cache_miss=_duration(counted.cache.miss) if counted.cache else pb.StatisticDuration(),
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


def repository_index(entries: Iterable[IndexEntry]) -> pb.RepositoryIndexResponse:
    """One entry a version; a model of which no version is known has one entry with only its name."""
    response = pb.RepositoryIndexResponse()
    for entry in entries:
        if entry.state is None:
            response.models.add(name=entry.name)
            continue
        response.models.add(
            name=entry.name,
            version="" if entry.version is None else str(entry.version),
            state=entry.state.value,
            reason=titled(entry.reason),
        )
    return response
