"""Which scheduler a model version gets, from its config."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from naiad.config.ragged_config import MAX_RAGGED_BATCH_BYTES
from naiad.config.sequence_config import OldestStrategy
from naiad.scheduling.admission import Admission
from naiad.scheduling.batching import BatchPolicy
from naiad.scheduling.ensemble.scheduler import EnsembleScheduler
from naiad.scheduling.policies import PriorityLevels
from naiad.scheduling.ragged_scheduler import RaggedScheduler
from naiad.scheduling.scheduler import BatchScheduler
from naiad.scheduling.sequence.direct import DirectScheduler
from naiad.scheduling.sequence.oldest import OldestScheduler
from naiad.scheduling.tensors import BatchLayout

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.core.tensors import InferRequest, InferResponse, ModelKey
    from naiad.runtime.session import Session
    from naiad.telemetry.statistics import VersionStatistics


class Scheduler(Protocol):
    """What a serving version hands its requests to. Used on the event loop's thread."""

    @property
    def defers(self) -> bool:
        """Whether requests may come with `sources` and a `sink`."""
        ...

    @property
    def queued(self) -> int:
        """Requests that wait for an instance."""
        ...

    @property
    def busy(self) -> int:
        """Instances that run a batch."""
        ...

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Queue a validated request; the future yields its response or the error.

        Raises:
            UnavailableError: the version drains, or its queue is full.
            InvalidArgumentError: the request does not suit the scheduler, such as one without its sequence.
        """
        ...

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is answered."""
        ...

    async def close(self) -> None:
        """Fail what still waits, let running batches end, and join the instance threads."""
        ...


def create_scheduler(
    key: ModelKey,
    *,
    config: ModelConfig,
    sessions: Sequence[tuple[str, Session]],
    statistics: VersionStatistics,
    max_queue_size: int,
    clock: Clock,
    admission_control: bool = True,
    max_ragged_batch_bytes: int = MAX_RAGGED_BATCH_BYTES,
) -> Scheduler:
    """The scheduler that the config asks for, its instance threads started.

    Args:
        key: the model version that answers are signed with.
        config: its completed config.
        sessions: one (name, session) an instance; several may name the same session.
        statistics: counts what happens.
        max_queue_size: requests that may wait, whatever the config's queue policies say.
        clock: the monotonic clock of deadlines and delays.
        admission_control: refuse requests that would wait beyond their deadlines; those of sequences never.
        max_ragged_batch_bytes: of all ragged inputs of a batch; a request alone may have more.
    """
    if config.ensemble is not None:
        return EnsembleScheduler(
            key, config=config, statistics=statistics, max_queue_size=max_queue_size, clock=clock
        )
    if config.sequence_batching is not None:
        oldest = isinstance(config.sequence_batching.strategy, OldestStrategy)
        bounded = partial(OldestScheduler, max_ragged_batch_bytes=max_ragged_batch_bytes)
        return (bounded if oldest else DirectScheduler)(
            key,
            config=config,
            sessions=sessions,
            statistics=statistics,
            max_queue_size=max_queue_size,
            clock=clock,
        )
    batching = config.dynamic_batching
    policy = batch_policy(config)
    layout = BatchLayout(config)
    make = (
        partial(RaggedScheduler, max_bytes=max_ragged_batch_bytes) if layout.ragged.inputs else BatchScheduler
    )
    return make(
        key,
        policy=policy,
        layout=layout,
        sessions=sessions,
        statistics=statistics,
        max_queue_size=max_queue_size,
        clock=clock,
        levels=PriorityLevels(batching),
        preserve_ordering=batching is not None and batching.preserve_ordering,
        admission=Admission(key, max_batch_size=policy.max_batch_size) if admission_control else None,
    )


def batch_policy(config: ModelConfig) -> BatchPolicy:
    """How the config lets requests be merged: not at all without a `dynamic_batching` block."""
    batching = config.dynamic_batching
    if batching is None or config.max_batch_size < 1:
        return BatchPolicy()
    return BatchPolicy(
        max_batch_size=config.max_batch_size,
        preferred=tuple(sorted(batching.preferred_batch_sizes)) or (config.max_batch_size,),
        max_queue_delay_ns=batching.max_queue_delay_us * 1_000,
    )
