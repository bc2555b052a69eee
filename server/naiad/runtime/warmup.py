"""Runs every batch size once before a version is ready, so that no caller pays for a first time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from naiad.config.sequence_config import OldestStrategy
from naiad.core.datatypes import DataType, zeros
from naiad.core.errors import NaiadError
from naiad.core.tensors import WILDCARD
from naiad.runtime.ragged import as_ragged
from naiad.runtime.session import BatchSlots
from naiad.runtime.shapes import declared_shapes, expected_dims, graph_dims

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array
    from naiad.runtime.session import Session

_BF16_EXPONENT = np.uint16(0x7F80)  # all ones in NaN and infinity


@dataclass(frozen=True, slots=True)
class WarmupRun:
    """One run of zeros: the batch size (1 for a model without batches), input shapes, microseconds.

    `not_finite` names the outputs in which there was NaN or infinity.
    """

    batch_size: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    took_us: int
    not_finite: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sample, the same for every version that gets the same: `sample` tells which it was.

    `label` says so in words; `not_finite` names the outputs in which there was NaN or infinity.
    """

    sample: Hashable
    label: str
    not_finite: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WarmupReport:
    """What was run, and one sentence for each shape that failed.

    `warnings` are failures of shapes that the config fixes, `skipped` those of shapes that were guessed,
    `quiet` those of models that were given empty text, which many rightly refuse. None of them keeps a
    version from serving. `samples` are the outcomes of the config's own.
    """

    runs: tuple[WarmupRun, ...]
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    quiet: tuple[str, ...] = ()
    samples: tuple[Outcome, ...] = ()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Those of the config's samples and of all zeros that were run."""
        zeros = (
            Outcome(run.shapes, f"zeros for {_describe(dict(run.shapes))}", run.not_finite)
            for run in self.runs
        )
        return (*self.samples, *zeros)


def warm_up(session: Session, config: ModelConfig, *, done: Collection[int] = ()) -> WarmupReport:
    """Run zeros through the session at batch size 1, each preferred one and the largest, in rising order.

    Where batches are filled up to a few sizes, it runs each of those instead: no other ever comes.

    Dimensions of any size take the vision config's picture size where there is one, else 1. Optional inputs
    are left out. Takes as long as the runs do: call it from a thread that may wait.

    Args:
        session: the session to warm.
        config: complete, with the graph's inputs and outputs.
        done: batch sizes that have been run already.
    """
    outputs = output_names(session, config)
    inputs = [tensor for tensor in config.inputs if not tensor.optional]
    if config.sequence_batching is not None:
        inputs += config.sequence_batching.inputs
    guessed = any(WILDCARD in graph_dims(tensor) for tensor in inputs)
    text = any(tensor.datatype is DataType.BYTES for tensor in inputs)
    runs: list[WarmupRun] = []
    failures: list[str] = []
    sizes = session.sizes if isinstance(session, BatchSlots) else ()
    for batch_size in sorted(set(sizes or _batch_sizes(config)).difference(done)):
        shapes = {tensor.name: _shape(config, tensor, batch_size) for tensor in inputs}
        feeds = {tensor.name: zeros(tensor.datatype, shapes[tensor.name]) for tensor in inputs}
        feeds |= server_inputs(config, batch_size)
        feeds = as_ragged(config, feeds)
        started_ns = time.monotonic_ns()
        try:
            answer = session.run(feeds, outputs)
            took_us = (time.monotonic_ns() - started_ns) // 1000
        except NaiadError as error:
            failures.append(f"warm-up with {_describe(shapes)} failed: {error.message}")
        else:
            broken = not_finite(answer, config)
            runs.append(WarmupRun(batch_size, tuple(shapes.items()), took_us, broken))
    if text:
        return WarmupReport(tuple(runs), quiet=tuple(failures))
    if guessed:
        return WarmupReport(tuple(runs), skipped=tuple(failures))
    return WarmupReport(tuple(runs), warnings=tuple(failures))


def _batch_sizes(config: ModelConfig) -> Sequence[int]:
    if config.max_batch_size < 1:
        return [1]
    preferred: Sequence[int] = ()
    if config.dynamic_batching is not None:
        preferred = config.dynamic_batching.preferred_batch_sizes
    elif config.sequence_batching is not None:
        strategy = config.sequence_batching.strategy
        preferred = strategy.preferred_batch_sizes if isinstance(strategy, OldestStrategy) else ()
    return [1, *preferred, config.max_batch_size]


def output_names(session: Session, config: ModelConfig) -> list[str]:
    """What a run that stands for any caller's asks for: the config's outputs and the states."""
    names = [output.name for output in config.outputs] or [spec.name for spec in session.outputs()]
    if config.sequence_batching is not None:
        names += [state.name for state in config.sequence_batching.outputs if state.name not in names]
    return names


def not_finite(answer: Mapping[str, Array], config: ModelConfig) -> tuple[str, ...]:
    """The names of the floating outputs in which there is NaN or infinity.

    Args:
        answer: what a session gave, by name.
        config: complete; it says which outputs are the bits of BF16.
    """
    halves = {output.name for output in config.outputs if output.datatype is DataType.BF16}
    return tuple(name for name, array in answer.items() if not _is_finite(array, bits=name in halves))


def _is_finite(array: Array, *, bits: bool) -> bool:
    if bits:
        return not np.any((array.astype(np.uint16, copy=False) & _BF16_EXPONENT) == _BF16_EXPONENT)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def server_inputs(config: ModelConfig, batch_size: int) -> dict[str, Array]:
    """The control tensors and states of a sequence model, as zeros: callers never send these."""
    sequences = config.sequence_batching
    if sequences is None:
        return {}
    made = {
        tensor.name: zeros(tensor.datatype, _shape(config, tensor, batch_size)) for tensor in sequences.inputs
    }
    return made | _correlation_ids(config, batch_size)


def _correlation_ids(config: ModelConfig, batch_size: int) -> dict[str, Array]:
    """Text ids, which a graph may turn into numbers: what an empty text cannot be."""
    sequences = config.sequence_batching
    shape = (batch_size, 1) if config.max_batch_size > 0 else (1,)
    return {
        control.name: np.full(shape, b"0", dtype=np.object_)
        for control in (sequences.controls if sequences else ())
        if control.datatype is DataType.BYTES
    }


def _shape(config: ModelConfig, tensor: TensorConfig, batch_size: int) -> tuple[int, ...]:
    dims = expected_dims(config, tensor, declared_shapes(config))
    filled = tuple(1 if dim == WILDCARD else dim for dim in dims)
    return (batch_size, *filled) if config.max_batch_size > 0 else filled


def _describe(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "no inputs"
