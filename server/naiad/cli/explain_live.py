"""What a running server says of a model over gRPC: its config, its figures, why its batches were formed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.config.domain import to_model_config
from naiad.config.model_config import InstanceKind
from naiad.config.vision_parameters import ACCEPTS, ENCODED
from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from naiad.runtime.buckets import batch_buckets
from naiad.scheduling.explain import MEANINGS, explain_scheduling
from naiad.services.catalog import BATCH_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from naiad.scheduling.explain import SchedulingReport

_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """The runs of one batch size, in batch items; `compute_us` is a run's mean."""

    batch_size: int
    runs: int
    share: float
    compute_us: float


@dataclass(frozen=True, slots=True)
class ReasonFigures:
    """The runs that started for one reason."""

    reason: str
    runs: int
    share: float
    meaning: str


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """One version's figures since it was loaded; means are of a request, in microseconds."""

    version: int
    requests: int
    failures: int
    batch_items: int
    runs: int
    queue_us: float
    compute_us: float
    items_per_run: float
    sizes: tuple[SizeFigures, ...]
    reasons: tuple[ReasonFigures, ...]
    execution_providers: tuple[str, ...]
    fallbacks: tuple[str, ...]
    instances: tuple[str, ...]
    scheduling: SchedulingReport
    batch_buckets: tuple[int, ...] = ()
    encoded_input: str = ""
    """The input that may be image files; empty if there is none."""


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A model and its versions that are ready."""

    name: str
    url: str
    versions: tuple[LiveVersion, ...]


def ask_server(url: str, name: str) -> LiveModel:
    """Ask a server for everything.

    Args:
        url: HOST:PORT of its gRPC service, without TLS; `grpc://` before it is allowed, as in `naiad health`.
        name: the model's.

    Raises:
        NotFoundError: the server has no such model that is ready.
        UnavailableError: it does not answer.
        InvalidArgumentError: it refuses to say, or `url` is of another protocol.
    """
    url = url.removeprefix("grpc://")
    if "://" in url:
        raise InvalidArgumentError(
            f"--url={url} should be HOST:PORT or grpc://HOST:PORT, of the gRPC service"
        )
    # A proxy of the environment has no part in it: what is asked for is the server at this address.
    with grpc.insecure_channel(url, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            statistics, trailers = _call(stub.ModelStatistics, pb.ModelStatisticsRequest(name=name))
            reasons = dict(map(_read_reasons, _values(trailers, BATCH_REASONS)))
            versions = tuple(_version(stub, each, reasons) for each in statistics.model_stats)
        except grpc.RpcError as error:
            raise _told(error, url, name) from None
    return LiveModel(name, url, tuple(sorted(versions, key=lambda version: version.version)))


def _call(method: Any, request: Any) -> tuple[Any, Iterable[tuple[str, str]]]:
    response, call = method.with_call(request, timeout=_TIMEOUT_S)
    return response, call.trailing_metadata() or ()


def _values(trailers: Iterable[tuple[str, str]], key: str) -> list[str]:
    return [value for name, value in trailers if name == key]


def _read_reasons(entry: str) -> tuple[str, dict[str, int]]:
    """The version and its runs by reason, from `2 preferred=10 delay=3`."""
    version, *counts = entry.split()
    pairs = (count.split("=") for count in counts)
    return version, {why: int(number) for why, number in pairs}


def _version(stub: Any, counted: Any, reasons: Mapping[str, Mapping[str, int]]) -> LiveVersion:
    config, _ = _call(stub.ModelConfig, pb.ModelConfigRequest(name=counted.name, version=counted.version))
    _, trailers = _call(
        stub.ModelMetadata, pb.ModelMetadataRequest(name=counted.name, version=counted.version)
    )
    providers = _values(trailers, "naiad-execution-providers")
    figures = counted.inference_stats
    compute = (figures.compute_input, figures.compute_infer, figures.compute_output)
    told = to_model_config(config.config)
    on_gpu = any(group.kind is InstanceKind.GPU for group in told.instance_groups)
    return LiveVersion(
        version=int(counted.version),
        requests=figures.success.count,
        failures=figures.fail.count,
        batch_items=counted.inference_count,
        runs=counted.execution_count,
        queue_us=_mean_us(figures.queue.ns, figures.queue.count),
        compute_us=_mean_us(sum(part.ns for part in compute), figures.compute_infer.count),
        items_per_run=counted.inference_count / max(1, counted.execution_count),
        sizes=tuple(_sizes(counted)),
        reasons=tuple(_reasons(reasons.get(counted.version, {}))),
        execution_providers=tuple(providers[0].split(",")) if providers else (),
        fallbacks=tuple(_values(trailers, "naiad-fallback")),
        instances=tuple(map(_group_text, config.config.instance_group)),
        scheduling=explain_scheduling(told),
        batch_buckets=batch_buckets(told, on_gpu=on_gpu).sizes,
        encoded_input=told.inputs[0].name if told.parameters.get(ACCEPTS) == ENCODED else "",
    )


def _sizes(counted: Any) -> Iterable[SizeFigures]:
    for row in counted.batch_stats:
        runs = row.compute_infer.count
        ns = row.compute_input.ns + row.compute_infer.ns + row.compute_output.ns
        yield SizeFigures(row.batch_size, runs, runs / max(1, counted.execution_count), _mean_us(ns, runs))


def _reasons(counts: Mapping[str, int]) -> Iterable[ReasonFigures]:
    total = sum(counts.values())
    for why, runs in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield ReasonFigures(why, runs, runs / total, MEANINGS.get(why, ""))


def _mean_us(ns: int, count: int) -> float:
    return round(ns / count / 1_000, 1) if count else 0.0


def _group_text(group: Any) -> str:
    kind = group.Kind.Name(group.kind).removeprefix("KIND_")
    gpus = f" {', '.join(map(str, group.gpus))}" if group.gpus else ""
    return f"{group.name}: {group.count} on {kind}{gpus}{', passive' * group.passive}"


def _told(error: grpc.RpcError, url: str, name: str) -> Exception:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError(f"the server at {url} does not answer: {details}")
    if "not available" in details or code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(f"the server at {url} has no model '{name}' that is ready: {details}")
    return InvalidArgumentError(f"the server at {url} answers {code.name}: {details}")
