"""What the schedulers of all models share, where it is switched on: response cache and rate limiter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.scheduling.base import SchedulerBase
from naiad.scheduling.cached import CachedScheduler
from naiad.scheduling.inline import InlinePace
from naiad.scheduling.rate_limiter import claim_of
from naiad.scheduling.scheduler import BatchScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.core.tensors import ModelKey
    from naiad.runtime.layout import Instance
    from naiad.scheduling.cache import ResponseCache
    from naiad.scheduling.factory import Scheduler
    from naiad.scheduling.rate_limiter import Claim, RateLimiter
    from naiad.telemetry.statistics import VersionStatistics


@dataclass(frozen=True, slots=True)
class SharedParts:
    """None or 0 for what is not switched on. Used on the event loop's thread.

    `max_inline_us` is the longest run, in microseconds, that may happen on the event loop's thread.
    """

    cache: ResponseCache | None = None
    rate_limiter: RateLimiter | None = None
    max_inline_us: int = 0

    def check(self, instances: Sequence[Instance]) -> None:
        """Look whether the instances of a version could ever run, before anything of it is started.

        Raises:
            InvalidArgumentError: one needs more of a resource than there can be.
        """
        if self.rate_limiter is not None:
            self.rate_limiter.check(_claims(instances))

    def around(
        self,
        scheduler: Scheduler,
        key: ModelKey,
        *,
        config: ModelConfig,
        instances: Sequence[Instance],
        statistics: VersionStatistics,
        max_queue_size: int,
        clock: Clock,
        is_even: bool = False,
    ) -> Scheduler:
        """The scheduler with what the config asks for and is switched on.

        Args:
            scheduler: new; whoever closes what this returns closes it.
            key: the version that answers are signed with.
            config: complete.
            instances: those that the scheduler runs, in its order; they have passed `check`.
            statistics: counts what happens.
            max_queue_size: requests that may wait.
            clock: the monotonic clock.
            is_even: every run of a batch size takes the same work, so that short ones may happen inline.
        """
        if is_even and self.max_inline_us and isinstance(scheduler, BatchScheduler):
            scheduler.run_inline(InlinePace(self.max_inline_us * 1_000))
        if self.rate_limiter is not None and isinstance(scheduler, SchedulerBase):
            claims = _claims(instances)
            if any(claim.needs for _, claim in claims):
                scheduler.limit(self.rate_limiter, self.rate_limiter.register(claims))
        if self.cache is None or not config.response_cache or config.ensemble is not None:
            return scheduler
        batching = config.dynamic_batching
        return CachedScheduler(
            key,
            scheduler,
            cache=self.cache,
            output_names=[output.name for output in config.outputs],
            statistics=statistics,
            max_queue_size=max_queue_size,
            clock=clock,
            preserve_ordering=batching is not None and batching.preserve_ordering,
        )

    def list_unused(self, config: ModelConfig) -> Iterator[str]:
        """One sentence for each block of the config that changes nothing, and why."""
        if config.response_cache and config.ensemble is not None:
            yield "response_cache of an ensemble has no effect: those of its steps count"
        elif config.response_cache and self.cache is None:
            yield "response_cache has no effect without --cache-config=local,size=BYTES: every request runs"
        if self.rate_limiter is None and any(group.rate_limit for group in config.instance_groups):
            yield (
                "instance_group.rate_limiter has no effect without --rate-limit=execution_count: "
                "instances run whenever they are idle"
            )


def _claims(instances: Sequence[Instance]) -> list[tuple[str, Claim]]:
    return [(instance.name, claim_of(instance.rate_limit, instance.gpu)) for instance in instances]
