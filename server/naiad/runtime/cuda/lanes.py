"""From an opened session on a GPU to the lanes of its instance, with CUDA graphs if they prove right."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol

import numpy as np

from naiad.core.errors import InternalError, NaiadError
from naiad.runtime.buckets import batch_buckets
from naiad.runtime.cuda.compute import ComputeThread
from naiad.runtime.cuda.driver import load_driver
from naiad.runtime.cuda.lane import Lane
from naiad.runtime.cuda.plan import plan_binding
from naiad.runtime.cuda.settings import GraphMode, read_cuda_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array
    from naiad.runtime.cuda.driver import Driver
    from naiad.runtime.cuda.lane import Engine
    from naiad.runtime.cuda.plan import BindingPlan

_SEEDS = (0, 1)
_TOLERANCE = 1e-2
"""Relative: FP16 and TF32 have three decimal digits, and an algorithm may add in another order."""


class LoadDriver(Protocol):
    """Gives the driver of a GPU; raises UnavailableError where there is none."""

    def __call__(self, device_id: int) -> Driver:
        """The driver."""
        ...


@dataclass(frozen=True, slots=True)
class InstanceLanes:
    """The lanes of one instance. Closing them all closes its session; `notes` say what was decided."""

    lanes: tuple[Lane, ...]
    notes: tuple[str, ...]

    def close(self) -> None:
        """Free everything. Safe to call twice."""
        for lane in self.lanes:
            lane.close()


def open_lanes(
    engine: Engine,
    config: ModelConfig,
    *,
    name: str,
    gpu: int,
    reopen: Callable[[], Engine],
    load: LoadDriver = load_driver,
) -> InstanceLanes:
    """Lanes over a session, which is theirs from now on: it is closed with them, or if this fails.

    Args:
        engine: the session, opened with CUDA graphs if the config and the model allow them.
        config: complete.
        name: the instance's.
        gpu: the instance's.
        reopen: opens the same session without CUDA graphs.
        load: gives the GPU's driver.

    Raises:
        NaiadError: the config is wrong, or the session cannot be opened again.
    """
    settings = read_cuda_settings(config)
    driver, plan, notes = _prepare(engine, config, gpu, load)
    notes += [settings.note] if settings.note else []
    opened = Opened(engine, name, driver, plan, settings.lanes if plan is not None else 1)
    graphs = engine.captures and settings.graphs is not GraphMode.OFF
    reason = _no_graphs(plan) if graphs else None
    if reason is not None:
        notes += [f"no CUDA graphs: {reason}"]
    try:
        if not graphs or reason is not None:
            return InstanceLanes(opened.lanes(graphs=False, notes=notes), tuple(notes))
        try:
            lanes = opened.lanes(graphs=True, notes=notes)
            _prove(lanes, plan)
        except NaiadError as error:
            # A capture that broke off leaves the session's stream unusable.
            opened.close()
            notes.append(f"no CUDA graphs: {error.message}")
            opened = Opened(reopen(), name, driver, plan, settings.lanes)
            lanes = opened.lanes(graphs=False, notes=notes)
        else:
            if lanes[0].plan_sizes:
                notes.append(f"CUDA graphs of batch sizes {', '.join(map(str, lanes[0].plan_sizes))}")
    except BaseException:
        opened.close()
        raise
    return InstanceLanes(lanes, tuple(notes))


class Opened:
    """A session with its compute thread, until the last of its lanes is closed."""

    def __init__(
        self, engine: Engine, name: str, driver: Driver | None, plan: BindingPlan | None, lanes: int
    ) -> None:
        self._engine = engine
        self._driver = driver
        self._plan = plan
        self._count = lanes
        self._open = 0
        self._is_ended = False
        self._compute = ComputeThread(name, driver)
        self._lanes: tuple[Lane, ...] = ()

    def lanes(self, *, graphs: bool, notes: list[str]) -> tuple[Lane, ...]:
        """Open the lanes; without buffers, and one alone, where there is too little memory for them."""
        numbers = count(1)
        new_graph = (lambda: next(numbers)) if graphs else None
        with ExitStack() as opened:
            made: list[Lane] = []
            try:
                for _ in range(self._count):
                    made.append(self._lane(self._plan, new_graph))
                    opened.callback(made[-1].close)
            except NaiadError as error:
                notes.append(f"{len(made)} of {self._count} lanes: {error.message}")
                if not made:
                    made.append(self._lane(None, None))
            opened.pop_all()
        self._lanes = tuple(made)
        self._open = len(made)
        return self._lanes

    def close(self) -> None:
        """Close what is open. Safe to call twice."""
        for lane in self._lanes:
            lane.close()
        self._end()

    def _lane(self, plan: BindingPlan | None, new_graph: Callable[[], int] | None) -> Lane:
        return Lane(
            self._engine,
            self._compute,
            driver=self._driver,
            plan=plan,
            new_graph=new_graph,
            closed=self._closed,
        )

    def _closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._end()

    def _end(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._compute.close()
            self._engine.close()


def _prepare(
    engine: Engine, config: ModelConfig, gpu: int, load: LoadDriver
) -> tuple[Driver | None, BindingPlan | None, list[str]]:
    """The driver and what to bind, or a note on why nothing is."""
    plan = plan_binding(config, engine.inputs(), engine.outputs(), batch_buckets(config, on_gpu=True))
    driver, problem = _usable_driver(gpu, load)
    if driver is not None and not isinstance(plan, str):
        return driver, plan, []
    reason = plan if isinstance(plan, str) else problem
    return driver, None, [f"tensors are copied in each run: {reason}"]


def _usable_driver(gpu: int, load: LoadDriver) -> tuple[Driver | None, str]:
    """The driver, or None and why: the engine may run on a CUDA of its own that fits the machine better."""
    try:
        driver = load(gpu)
        driver.enter()
    except NaiadError as error:
        return None, error.message
    return driver, ""


def _no_graphs(plan: BindingPlan | None) -> str | None:
    """What keeps a session that could capture from it."""
    if plan is None:
        return "its tensors have no fixed place in memory"
    if plan.free_outputs:
        return f"only a run can tell the shape of output '{plan.free_outputs[0]}'"
    return None


def _prove(lanes: tuple[Lane, ...], plan: BindingPlan | None) -> None:
    """Capture every size, and compare what the graphs answer with plain runs.

    A graph replays what it was captured with: a value that the host computed from the first inputs, say.

    Raises:
        NaiadError: a capture fails.
        InternalError: a graph answers something else than the model.
    """
    assert plan is not None
    names = [tensor.name for tensor in plan.outputs]
    for lane in lanes:
        for size in plan.sizes:
            for seed in _SEEDS:
                feeds = _sample(plan, size, seed)
                expected, replayed = lane.run_plain(feeds, names), lane.run(feeds, names)
                _compare(expected, replayed, size)


def _sample(plan: BindingPlan, size: int, seed: int) -> dict[str, Array]:
    """Values of a picture's range; zeros of whole numbers, which may be places in a table."""
    source = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for tensor in plan.inputs:
        dtype, shape = tensor.datatype.numpy, tensor.shape(size)
        is_float = dtype.kind == "f"
        feeds[tensor.name] = source.random(shape).astype(dtype) if is_float else np.zeros(shape, dtype)
    return feeds


def _compare(expected: dict[str, Array], replayed: dict[str, Array], size: int) -> None:
    for name, array in expected.items():
        if array.dtype.kind == "f":
            scale = float(np.nanmax(np.abs(array), initial=0.0, where=np.isfinite(array)))
            same = np.allclose(replayed[name], array, _TOLERANCE, _TOLERANCE * scale, equal_nan=True)
        else:
            # Whole numbers may be the places of the largest of nearly equal values.
            same = replayed[name].shape == array.shape
        if not same:
            raise InternalError(f"the graph of batch size {size} answers another '{name}' than the model")
