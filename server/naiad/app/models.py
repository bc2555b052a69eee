"""What models are served by: the engine, experiments and the manager, built in one order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import structlog

from naiad.config.cache_config import parse_cache_config
from naiad.config.engine_address import parse_engine
from naiad.config.rate_config import parse_rate_limit_resources
from naiad.core.clock import MonotonicClock
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.control import ControlMode
from naiad.lifecycle.experiments.aside import AsideSettings, default_budget
from naiad.lifecycle.experiments.director import Experiments
from naiad.lifecycle.loading import RepositoryLoader
from naiad.lifecycle.manager import ModelManager
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.profiling import Profiles
from naiad.runtime.remote.fleet import Fleet
from naiad.runtime.remote.loader import RemoteEngine
from naiad.runtime.threads import read_cpu_budget, read_cpu_quota, read_cpus
from naiad.runtime.tuning_process import LayoutTuner
from naiad.scheduling.cache import ResponseCache
from naiad.scheduling.parts import SharedParts
from naiad.scheduling.rate_limiter import RateLimiter
from naiad.services.metrics import statistics_factory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack

    from naiad.app.engine_builds import EngineBuilds
    from naiad.config.server_config import ServerConfig
    from naiad.telemetry.metrics import MetricsSettings

log = structlog.get_logger(__name__)


class ServedModels:
    """The parts of a server below its data plane. Each is closed by the stack that it was built on."""

    def __init__(
        self, config: ServerConfig, metrics: MetricsSettings, stack: AsyncExitStack, builds: EngineBuilds
    ) -> None:
        """Build them; nothing is loaded yet.

        Args:
            config: the server's settings.
            metrics: what is counted of each version.
            stack: closes the parts in the reverse order.
            builds: those of TensorRT's engines.

        Raises:
            InvalidArgumentError: a setting cannot be used here.
        """
        environment = OrtEnvironment.detect()
        for warning in environment.warnings:
            log.warning("engine", detail=warning, who="operator")
        self._config = config
        self._budget = read_cpu_budget(config.cpu_threads)
        clock = MonotonicClock()
        self._tuner = (
            LayoutTuner(limit_s=config.measure_layout_secs, clock=clock) if config.measure_layout else None
        )
        remote = _remote_engine(config)
        if remote is not None:
            stack.callback(remote.fleet.close)
        stack.push_async_callback(builds.close)
        loader = RepositoryLoader(
            environment,
            self._budget,
            auto_complete=not config.disable_auto_complete_config,
            default_max_batch_size=config.default_max_batch_size,
            config_name=config.model_config_name,
            tuner=self._tuner,
            engines=builds.open_service(
                environment,
                root=config.tensorrt_cache_directory,
                max_bytes=config.tensorrt_cache_max_bytes,
            ),
            profiles=_profiles(config),
            remote=remote,
        )
        self.experiments = _experiments(config)
        stack.push_async_callback(self.experiments.close)
        self.manager = ModelManager(
            loader,
            clock=clock,
            max_queue_size=config.max_queue_size,
            load_threads=config.model_load_thread_count,
            new_statistics=statistics_factory(metrics),
            mode=ControlMode(config.model_control_mode),
            roots=config.model_repository,
            load_retries=config.model_load_retry_count,
            poll_secs=config.repository_poll_secs,
            admission_control=config.admission_control,
            max_ragged_batch_bytes=config.max_ragged_batch_bytes,
            parts=_shared_parts(config),
            find_versions=None if remote is None else remote.find_versions,
            quiet_secs=config.repository_quiet_secs,
            watch=config.repository_watch,
            ready_marker=config.repository_ready_marker,
            allow_interface_change=config.allow_interface_change,
            ready_while_loading=config.ready_while_loading,
            experiments=self.experiments,
        )
        stack.push_async_callback(self.manager.close)
        # Before the manager waits for loads, some of which wait for an engine.
        stack.callback(builds.stop)

    @property
    def decode_threads(self) -> int:
        """How many threads decode pictures."""
        return self._config.decode_threads or self._budget.threads

    async def load(self) -> None:
        """Load what is to be served at start.

        Raises:
            InvalidArgumentError: not every model could be loaded and the server is to end then, or a
                repository cannot be listed.
        """
        config = self._config
        # OpenCV would start a thread for each core of the host in each decode thread.
        cv2.setNumThreads(1)
        await self.manager.start(config.load_model)
        if self._tuner is not None:
            self._tuner.serving = True
        self._log_budget()
        self._log_profiles()
        if config.exit_on_error and not self.manager.all_ready():
            raise InvalidArgumentError(
                f"not every model could be loaded: {_listed(self.manager.not_ready())}; the log says why"
                f"{_check_advice(config)} (--exit-on-error=false serves the others)"
            )

    def _log_budget(self) -> None:
        """One line with all that may compute: models loaded later say the same when they are ready."""
        log.info(
            "cpu budget",
            threads=self._budget.threads,
            reason=self._budget.reason,
            decode_threads=self.decode_threads,
            models=self.manager.layouts(),
        )

    def _log_profiles(self) -> None:
        """Name models that are to be profiled and are not there; in modes other than none they may come."""
        missing = sorted({*self._config.profile_model} - {*self.manager.model_names()})
        if missing and self._config.model_control_mode == "none":
            detail = f"no model of --profile-model={', '.join(missing)} is in the repository"
            log.warning("nothing to profile", detail=detail, who="operator")


def _experiments(config: ServerConfig) -> Experiments:
    settings = AsideSettings(
        budget_cpus=default_budget(read_cpu_quota()),
        cpus=read_cpus(),
        max_pending=config.shadow_max_pending,
        max_pending_bytes=config.shadow_max_pending_bytes,
        timeout_s=config.shadow_timeout_secs,
        auto_complete=not config.disable_auto_complete_config,
        default_max_batch_size=config.default_max_batch_size,
    )
    return Experiments(
        settings,
        folder=Path(config.experiment_directory) if config.experiment_directory else None,
        tick_s=config.experiment_interval_secs,
    )


def _profiles(config: ServerConfig) -> Profiles | None:
    if not config.profile_directory:
        return None
    return Profiles(Path(config.profile_directory), frozenset(config.profile_model))


def _check_advice(config: ServerConfig) -> str:
    """What else says why a model was not loaded; of those that an engine runs there is no file to look at."""
    if config.engine:
        return ""
    return f", and `naiad check {' '.join(map(str, config.model_repository))}` what to do"


def _remote_engine(config: ServerConfig) -> RemoteEngine | None:
    if not config.engine:
        return None
    fleet = Fleet(parse_engine(config.engine), timeout_s=config.engine_timeout_secs)
    return RemoteEngine(fleet, config.engine_instances)


def _shared_parts(config: ServerConfig) -> SharedParts:
    """What the schedulers of all models share, as far as it is switched on."""
    size = parse_cache_config(config.cache_config)
    totals = parse_rate_limit_resources(config.rate_limit_resource)
    return SharedParts(
        cache=ResponseCache(size) if size else None,
        rate_limiter=None if config.rate_limit == "off" else RateLimiter(totals),
        max_inline_us=config.max_inline_run_us,
    )


def _listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
