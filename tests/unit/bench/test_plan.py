"""What a run measures: which loads a case takes, which servers see them, and what bare is measured once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.cases import Case
from bench.loads import Load, planned_loads
from bench.plan import plan_cases

if TYPE_CHECKING:
    from bench.cases import Wire
    from bench.plan import Plan


@dataclass
class Standing:
    """A server that is there."""

    name: str
    wires: frozenset[Wire]
    address: str = ""
    pid: int = 0

    def serves(self, case: Case) -> bool:
        return case.wire in self.wires

    def ended(self) -> str:
        return ""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


OURS = Standing("Naiad", frozenset({"unary", "stream", "shared memory", "frames"}))
PEER = Standing("MLServer", frozenset({"unary"}))


def case(key: str, wire: Wire = "unary", model: str = "m") -> Case:
    return Case(key, key, model, "", {}, "", max_batch=8, wire=wire)


def plan(*cases: Case, full: bool = False, perf: bool = True) -> list[Plan]:
    loads = planned_loads([1, 8], ["perf_analyzer", "asyncio"] if perf else ["asyncio"], full=full)
    return plan_cases(list(cases), [OURS, PEER], loads, cpus=2, full=full)


def names(planned: Plan) -> list[str]:
    return [f"{step.target.name}: {step.load.name}" for steps in planned.steps for step in steps]


def test_a_short_run_compares_once() -> None:
    assert names(plan(case("a"))[0]) == [
        "Naiad: 1 in flight",
        "Naiad: 8 in flight",
        "MLServer: 8 in flight",
        "Naiad: 8 in flight, asyncio",
        "Naiad: Poisson, 80%, asyncio",
    ]


def test_a_full_run_compares_everything() -> None:
    found = names(plan(case("a"), full=True)[0])
    assert "MLServer: Poisson, 50%" in found
    assert "MLServer: Poisson, 80%, asyncio" in found
    assert found.index("Naiad: 8 in flight, asyncio") < found.index("Naiad: Poisson, 50%, asyncio")


def test_without_perf_analyzer_our_own_client_sends_everything_once() -> None:
    assert names(plan(case("a"), perf=False)[0]) == [
        "Naiad: 1 in flight, asyncio",
        "Naiad: 8 in flight, asyncio",
        "MLServer: 8 in flight, asyncio",
        "Naiad: Poisson, 80%, asyncio",
    ]


def test_wires_that_only_one_client_or_server_has() -> None:
    stream, shared, frames = plan(case("s", "stream"), case("m", "shared memory"), case("f", "frames"))
    assert names(stream) == names(shared) == ["Naiad: 1 in flight", "Naiad: 8 in flight"]
    assert names(frames) == ["Naiad: 1 in flight, asyncio", "Naiad: 8 in flight, asyncio"]
    assert names(plan(case("m", "shared memory"), perf=False)[0]) == []


def test_bare_is_measured_once_a_model_and_frames_are_other_inputs() -> None:
    first, second, frames = plan(case("a"), case("b", "stream"), case("f", "frames"))
    assert [series.load for series, _ in first.bare] == ["1 x 1 thread", "2 x 1 thread", "1 x 2 threads"]
    assert second.bare == []
    assert second.steps[0][0].series.limit == first.bare[0][0].limit
    assert [series.limit for series, _ in frames.bare] != [series.limit for series, _ in first.bare]


def test_a_share_of_a_loop_that_is_not_asked_for_is_measured_all_the_same() -> None:
    loads = planned_loads([1], ["perf_analyzer"], full=False)
    assert loads == [
        Load("perf_analyzer", in_flight=1),
        Load("perf_analyzer", in_flight=8),
        Load("perf_analyzer", share=0.8),
    ]
