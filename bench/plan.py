"""What a run measures: for each case its bare layouts, and its loads on each server. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.loads import SHARE_OF, Load
from bench.results import BARE, OURS, Series

if TYPE_CHECKING:
    from bench.cases import Case
    from bench.results import Kind
    from bench.targets import Target


@dataclass(frozen=True, slots=True)
class Step:
    """A series of a server, and what it takes to measure it."""

    series: Series
    case: Case
    target: Target
    load: Load


@dataclass(frozen=True, slots=True)
class Plan:
    """What a case is measured with: bare series with (threads, batch), then steps load by load."""

    case: Case
    bare: list[tuple[Series, int]]
    steps: list[list[Step]]


def plan_cases(
    cases: list[Case], targets: list[Target], loads: list[Load], *, cpus: int, full: bool
) -> list[Plan]:
    """What to measure.

    Args:
        cases: in the order of the tables.
        targets: the servers that run, ours first.
        loads: `bench.loads.planned_loads`.
        cpus: CPUs that may be used.
        full: peers under every load and bare batches too; without it peers see one closed loop only.
    """
    plans = []
    measured: set[str] = set()
    compared = Load(loads[0].client, in_flight=SHARE_OF)
    for case in cases:
        group = f"{case.model}{' frames' if case.wire == 'frames' else ''}"
        bare = [] if group in measured else _bare_series(case, group, cpus, full=full)
        measured.add(group)
        steps = [
            [
                Step(_series(case, group, target, load), case, target, load)
                for target in targets
                if target.serves(case) and (full or target.name == OURS or load == compared)
            ]
            for load in _loads_of(case, loads)
        ]
        plans.append(Plan(case, bare, [each for each in steps if each]))
    return plans


def _loads_of(case: Case, loads: list[Load]) -> list[Load]:
    """Those that the case's wire takes: an open loop is unary, frames are sent by our own client alone."""
    if case.wire == "unary":
        return loads
    closed = [load for load in loads if not load.open]
    if case.wire == "frames":
        levels = dict.fromkeys(load.in_flight for load in closed)
        return [Load("asyncio", in_flight=level) for level in levels]
    first = closed[0].client
    if case.wire == "shared memory" and first != "perf_analyzer":
        return []
    return [load for load in closed if load.client == first]


def _bare_series(case: Case, group: str, cpus: int, *, full: bool) -> list[tuple[Series, int]]:
    """The layouts: one caller of one thread, as many as there are CPUs, one caller of all threads."""
    layouts = dict.fromkeys([(1, 1, 1), (max(2, cpus), 1, 1), (1, max(2, cpus), 1)])
    if full and case.max_batch > 1:
        layouts |= dict.fromkeys([(max(2, cpus), 1, case.max_batch)])
    series = []
    for callers, threads, batch in layouts:
        name = f"{callers} x {threads} thread{'s' if threads > 1 else ''}"
        name += f", batches of {batch}" if batch > 1 else ""
        kind: Kind = "batches" if batch > 1 else "bare"
        series.append((Series(case.key, case.name, group, BARE, name, kind, callers, threads=threads), batch))
    return series


def _series(case: Case, group: str, target: Target, load: Load) -> Series:
    return Series(
        case.key,
        case.name,
        group,
        target.name,
        load.name,
        "open" if load.open else "closed",
        load.share or load.in_flight,
        client=load.client,
    )
