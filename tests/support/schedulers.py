"""Schedulers on a real loop with real instance threads, over sessions that the test steers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from support.sessions import GatedSession

from naiad.config.ragged_config import MAX_RAGGED_BATCH_BYTES
from naiad.core.clock import MonotonicClock
from naiad.core.tensors import ModelKey
from naiad.scheduling.factory import create_scheduler
from naiad.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.runtime.session import Session
    from naiad.scheduling.factory import Scheduler


@asynccontextmanager
async def running_scheduler(
    config: ModelConfig,
    *sessions: Session,
    max_queue_size: int = 100,
    clock: Clock | None = None,
    admission_control: bool = True,
    max_ragged_batch_bytes: int = MAX_RAGGED_BATCH_BYTES,
) -> AsyncIterator[tuple[Scheduler, VersionStatistics]]:
    """The scheduler that the config asks for, one instance a session; gates open and all closes at the end."""
    statistics = VersionStatistics()
    running = create_scheduler(
        ModelKey(config.name, 1),
        config=config,
        sessions=[(f"{config.name}_{index}", session) for index, session in enumerate(sessions)],
        statistics=statistics,
        max_queue_size=max_queue_size,
        clock=clock or MonotonicClock(),
        admission_control=admission_control,
        max_ragged_batch_bytes=max_ragged_batch_bytes,
    )
    try:
        yield running, statistics
    finally:
        for session in sessions:
            if isinstance(session, GatedSession):
                session.open()
        await running.close()
