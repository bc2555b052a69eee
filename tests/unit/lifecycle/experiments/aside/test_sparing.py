"""The process aside takes what the server leaves, and a little however busy that is."""

from __future__ import annotations

import math
import time

import pytest

from naiad.lifecycle.experiments.aside.pace import Pace
from naiad.lifecycle.experiments.aside.sparing import LEAST_CPUS, LEAST_SHARE, SpareCpus, taken_cpu_ns

SECOND = 10**9


class Server:
    """A process that has kept so many CPUs busy until now."""

    def __init__(self) -> None:
        self.now_ns = self.cpu_ns = 0

    def work(self, seconds: float, cpus: float, spare: SpareCpus) -> None:
        for _ in range(int(seconds * 10)):
            self.now_ns += SECOND // 10
            self.cpu_ns += int(cpus * SECOND / 10)
            spare.allowed(1, self.now_ns)

    def spare(self, cpus: float) -> SpareCpus:
        return SpareCpus(cpus, lambda: self.cpu_ns, now_ns=0)


@pytest.mark.parametrize(
    ("cpus", "busy", "allowed"),
    [
        (2, 0, 0.5),
        (2, 0.25, 0.5),  # one is kept for others, and 0.75 of the other is left
        (2, 0.75, 0.25),
        (2, 1, 0.05),
        (2, 2, 0.05),
        (1, 0, 0.05),
        (64, 40, 0.5),
        (math.inf, 1_000, 0.5),
    ],
)
def test_a_budget_of_half_a_cpu_is_what_is_left_of_it(cpus: float, busy: float, allowed: float) -> None:
    server = Server()
    spare = server.spare(cpus)
    server.work(5, busy, spare)
    assert spare.allowed(0.5, server.now_ns) == pytest.approx(allowed, abs=0.01)


def test_a_server_that_has_become_idle_gives_the_budget_back_within_two_seconds() -> None:
    server = Server()
    spare = server.spare(2)
    server.work(5, 2, spare)
    server.work(2, 0, spare)
    assert spare.allowed(0.5, server.now_ns) == pytest.approx(0.5, abs=0.01)


def test_a_small_budget_is_not_made_smaller_than_what_runs_anything() -> None:
    server = Server()
    spare = server.spare(1)
    assert spare.allowed(0.1, 0) == LEAST_CPUS
    assert spare.allowed(0.01, 0) == 0.01
    assert spare.allowed(4, 0) == pytest.approx(4 * LEAST_SHARE)


def test_the_pace_follows_what_is_left() -> None:
    server = Server()
    spare = server.spare(2)
    pace = Pace(0.5, 100, now_ns=0, spare=spare)
    pace.charge(SECOND, 0)
    idle_wait_ns = pace.run_wait_ns(0)
    server.work(5, 2, spare)
    pace.run_wait_ns(server.now_ns)
    pace.charge(SECOND, server.now_ns)
    assert pace.run_wait_ns(server.now_ns) > 5 * idle_wait_ns


def test_what_the_server_uses_is_taken() -> None:
    before, own_ns = taken_cpu_ns(), time.process_time_ns()
    while time.process_time_ns() < own_ns + SECOND // 20:
        pass
    assert taken_cpu_ns() - before >= SECOND // 20
