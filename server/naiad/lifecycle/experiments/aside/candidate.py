"""One version as the process aside has it: its session, one thread, and what its answers are read with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from naiad.config.model_config import InstanceGroup, InstanceKind
from naiad.core.clock import MonotonicClock
from naiad.core.errors import InternalError, UnsupportedError
from naiad.core.tensors import InferRequest
from naiad.lifecycle.experiments.worst import Disagreement
from naiad.runtime.providers import CPU
from naiad.scheduling.execution import Executor
from naiad.scheduling.tensors import BatchBuffer, BatchLayout
from naiad.vision.agreement import RankWindow

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, ModelKey, Tensors
    from naiad.lifecycle.experiments.worst import WorstDisagreements
    from naiad.lifecycle.loaded import LoadedModel, VisionModel
    from naiad.runtime.loaded import LoadedVersion
    from naiad.vision.agreement import Agreement

_OWN_WAYS = frozenset(
    {
        "execution_mode",
        "intra_op_thread_count",
        "inter_op_thread_count",
        "session.intra_op.allow_spinning",
        "session.inter_op.allow_spinning",
    }
)
"""Parameters by which a config gives its sessions more threads, or lets them wait at the CPU's cost."""


@dataclass(slots=True)
class Reader:
    """What the answers of a version are read with: its complete config, and an embedder's last pairs."""

    config: ModelConfig
    vision: VisionModel | None
    window: RankWindow = field(default_factory=RankWindow)
    same_space: bool = True


class Ran(NamedTuple):
    """A run's outputs, and how long it took in milliseconds: of CPU time, on a GPU of the wall's."""

    outputs: dict[str, Array]
    took_ms: float


class Case(NamedTuple):
    """A request that two versions have answered."""

    baseline: int
    inputs: Tensors
    baseline_outputs: Tensors
    candidate_outputs: Tensors
    request_id: str


class Candidate:
    """A loaded version. Owns it."""

    def __init__(
        self, key: ModelKey, model: LoadedModel, worst: WorstDisagreements | None = None, experiment: str = ""
    ) -> None:
        """Create one; `worst` takes the requests of `experiment` that are to be kept."""
        self._key = key
        self._worst = worst
        self._experiment = experiment
        self._loaded: LoadedVersion = model.version
        config = model.version.config
        self._layout = BatchLayout(config)
        self._executor = Executor(self._layout, BatchBuffer(self._layout), MonotonicClock())
        on_cpu = self._loaded.instance_providers[:1] == (CPU,)
        self._now_ns = time.process_time_ns if on_cpu else time.monotonic_ns

    def run(self, inputs: Tensors, wanted: Tensors) -> Ran:
        """Run a request as the server would, alone in its batch.

        Args:
            inputs: full arrays.
            wanted: the names of the outputs to compute are its keys, as far as the version has them.

        Raises:
            NaiadError: the version refuses, or fails.
        """
        names = tuple(name for name in self._layout.output_names if name in wanted)
        rows = len(next(iter(inputs.values()), ())) if self._layout.batched else 1
        request = InferRequest(self._key.name, self._key.version, dict(inputs), names, batch_size=rows)
        started_ns = self._now_ns()
        (execution,) = self._executor.execute(self._loaded.sessions[0], [request], lambda _: False)
        took_ms = (self._now_ns() - started_ns) / 1e6
        (outcome,) = execution.outcomes
        if isinstance(outcome, Exception):
            raise outcome
        return Ran(outcome, took_ms)

    def keep(self, case: Case, agreement: Agreement) -> Path | None:
        """Keep the request on disk if it is one of the worst; where it is then.

        Raises:
            UnavailableError: it cannot be written.
        """
        if self._worst is None or not self._worst.would_keep(agreement):
            return None
        return self._worst.offer(
            Disagreement(
                model=self._key.name,
                baseline_version=case.baseline,
                candidate_version=self._key.version,
                agreement=agreement,
                at=datetime.now(UTC),
                inputs=case.inputs,
                baseline_outputs=case.baseline_outputs,
                candidate_outputs=case.candidate_outputs,
                request_id=case.request_id,
                experiment=self._experiment,
            )
        )

    def close(self) -> None:
        """Free the sessions."""
        self._loaded.close()


def config_aside(config: ModelConfig) -> ModelConfig:
    """A model's config as its candidates run aside: one instance with one thread, on the CPU.

    On a GPU only where the config says KIND_GPU.

    Raises:
        UnsupportedError: a request alone does not say what the model answers.
    """
    if config.ensemble is not None:
        raise UnsupportedError(f"model '{config.name}' is an ensemble, which has nothing to run of its own")
    if config.sequence_batching is not None:
        raise UnsupportedError(
            f"model '{config.name}' keeps state between requests: a copy of one alone says nothing"
        )
    on_gpu = next((group for group in config.instance_groups if group.kind is InstanceKind.GPU), None)
    group = (
        InstanceGroup(f"{config.name}_0", InstanceKind.CPU, 1)
        if on_gpu is None
        else replace(on_gpu, count=1, gpus=on_gpu.gpus[:1] or (0,), passive=False, rate_limit=None)
    )
    kept = {name: value for name, value in config.parameters.items() if name not in _OWN_WAYS}
    return replace(config, instance_groups=(group,), parameters=kept)


def not_open(key: ModelKey) -> InternalError:
    """What is asked of a version that is not open."""
    return InternalError(f"version '{key}' is not open in the process aside")
