"""The process aside, a real one: its answers, its limits, its crashes and its end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

from support import aside as aside_support
from support.aside import AMPLE, Aside, Told, adding, of_kind, running, until

from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside import (
    AsideProcess,
    JobFailed,
    ModelOpened,
    ShadowResult,
    SignsJob,
)

LONG = 10**9
"""Turns that take minutes."""


def read(path: str) -> str:
    return Path(path).read_text(encoding="ascii").strip()


async def test_it_runs_when_nothing_else_does_and_shares_the_servers_session(tmp_path: Path) -> None:
    """With a session of its own it could have a share of the CPUs of its own, and not be idle."""
    async with Aside(tmp_path, replace(AMPLE, is_idle=True)) as aside:
        await aside.open()
        pid = aside.process.figures.pid
        assert pid is not None
        tasks = list(map(int, os.listdir(f"/proc/{pid}/task")))  # noqa: PTH208  # names alone
        assert {os.sched_getscheduler(task) for task in tasks} == {os.SCHED_IDLE}
        assert os.getsid(pid) == os.getsid(0)
        assert os.getpgid(pid) == pid
        assert read(f"/proc/{pid}/oom_score_adj") == "1000"


async def test_nothing_is_left_after_its_end(tmp_path: Path) -> None:
    shared = set(os.listdir("/dev/shm"))  # noqa: PTH208  # names alone
    descriptors = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with Aside(tmp_path) as aside:
        await aside.open("loop")
        told = Told()
        aside.process.submit(running(LONG), told)
        pid = aside.process.figures.pid
        assert pid is not None
        aside.process.submit(running(1), told)
    assert not is_there(pid)
    assert "naiad-aside" not in {thread.name for thread in threading.enumerate()}
    assert set(os.listdir("/dev/shm")) <= shared  # noqa: PTH208
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)  # noqa: PTH208
    assert not aside.process.submit(running(1), told)
    await asyncio.sleep(0)
    assert told.results == []


async def test_nothing_is_started_before_there_is_something_to_do() -> None:
    process = AsideProcess()
    assert (process.figures.starts, process.figures.pid) == (0, None)
    await process.close()
    await process.close()


async def test_a_version_that_kills_it_is_blamed_and_it_starts_again(tmp_path: Path) -> None:
    """Also after it was opened well: its versions are opened again."""
    async with Aside(tmp_path) as aside:
        await aside.open("m")
        await aside.open("loop")
        told = Told()
        before = aside.process.figures.cpu_s
        aside.process.submit(running(LONG), told)
        await until(lambda: aside.process.figures.cpu_s > before + 0.02)
        first = aside.process.figures.pid
        assert first is not None
        os.kill(first, signal.SIGSEGV)
        failed = of_kind(await told.next(), JobFailed)
        result = await aside.ask(adding())
        figures = aside.process.figures
    assert failed.is_candidates_fault
    assert not failed.gave_up
    assert "SIGSEGV" in failed.reason
    assert isinstance(result, ShadowResult)
    assert (figures.starts, figures.failed, figures.done) == (2, 1, 1)
    assert figures.pid != first


async def test_who_kills_it_again_and_again_is_given_up(tmp_path: Path) -> None:
    settings = replace(AMPLE, timeout_s=0.05, max_kills=2)
    async with Aside(tmp_path, settings) as aside:
        aside.process.open_model(ModelKey("loop", 2), *aside.loop)
        results = [of_kind(await aside.ask(running(LONG)), JobFailed) for _ in range(2)]
        refused = aside.process.submit(running(1), Told())
        figures = aside.process.figures
        assert isinstance(await aside.open("loop"), ModelOpened)
        again = await aside.ask(running(1))
    assert [each.gave_up for each in results] == [False, True]
    assert all("0.05 s of CPU time" in each.reason and each.is_candidates_fault for each in results)
    assert not refused
    assert list(figures.given_up) == [ModelKey("loop", 2)]
    assert figures.skipped == {"given_up": 1}
    assert isinstance(again, ShadowResult)


async def test_a_process_that_ended_between_two_jobs_is_nobodys_fault(tmp_path: Path) -> None:
    async with Aside(tmp_path) as aside:
        await aside.open()
        pid = aside.process.figures.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_there(pid))
        assert isinstance(await aside.ask(adding()), ShadowResult)
        assert aside.process.figures.starts == 2


async def test_what_is_beyond_its_places_is_skipped_at_once_and_counted(tmp_path: Path) -> None:
    """Two of the eight places are for looks into answers, which a slow candidate would not let in."""
    async with Aside(tmp_path) as aside:
        await aside.open("loop")
        told = Told()
        taken = [aside.process.submit(running(LONG), told) for _ in range(10)]
        looks = [
            aside.process.submit(SignsJob("loop", 2, running(1).outputs, running(1).inputs), told)
            for _ in range(4)
        ]
        figures = aside.process.figures
        stranger = aside.process.submit(replace(running(1), candidate=9), told)
    assert taken == [True] * 6 + [False] * 4
    assert looks == [True] * 2 + [False] * 2
    assert figures.skipped == {"full": 6}
    assert figures.pending == 8
    assert not stranger


async def test_waiting_tensors_are_bounded_in_bytes_and_a_lone_job_may_have_more(tmp_path: Path) -> None:
    settings = replace(AMPLE, max_pending_bytes=1000, max_arena_bytes=2**20)
    async with Aside(tmp_path, settings) as aside:
        await aside.open()
        told = Told()
        large = adding(rows=8)
        taken = [aside.process.submit(each, told) for each in (large, large)]
        result = await told.next()
        too_large = aside.process.submit(adding(rows=2**13), told)
        figures = aside.process.figures
    assert taken == [True, False]
    assert isinstance(result, ShadowResult)
    assert not too_large
    assert figures.skipped == {"full": 1, "too_large": 1}


async def test_a_requests_tensors_are_let_go_as_soon_as_they_are_copied(tmp_path: Path) -> None:
    """Not when the slow candidate has answered: they may be a large message's."""
    async with Aside(tmp_path) as aside:
        await aside.open("loop")
        before, job = aside.process.figures.cpu_s, running(LONG)
        held = weakref.ref(job.inputs["INPUT0"])
        assert aside.process.submit(job, Told())
        del job
        await until(lambda: aside.process.figures.cpu_s > before + 0.02)
        gc.collect()
        assert held() is None


async def test_its_cpu_time_stays_within_the_budget_in_the_middle_of_a_long_run(tmp_path: Path) -> None:
    """CPU time, not the wall's: a process that runs last may need any time for it."""
    budget = 0.2
    async with Aside(tmp_path, replace(AMPLE, budget_cpus=budget)) as aside:
        aside.process.budget_cpus = 8
        await aside.open("loop")
        aside.process.budget_cpus = budget
        aside.process.submit(running(LONG), Told())
        start_s, before_s = time.monotonic(), aside.process.figures.cpu_s
        await until(lambda: aside.process.figures.cpu_s > before_s + 0.3)
        took_s, used_s = time.monotonic() - start_s, aside.process.figures.cpu_s - before_s
        # What the bucket and one look hold may come on top.
        assert used_s <= budget * (took_s + 0.2) + 0.06
        aside.process.budget_cpus = 8


async def test_a_job_may_wait_for_its_budget_longer_than_it_may_take(tmp_path: Path) -> None:
    """The limit is one of CPU time, and time in which it is held still counts for nothing."""
    settings = replace(AMPLE, timeout_s=0.5, stall_s=0.1, budget_cpus=8)
    async with Aside(tmp_path, settings) as aside:
        await aside.open("loop")
        aside.process.budget_cpus = 0.1
        assert isinstance(await aside.ask(running(60_000)), ShadowResult)


async def test_a_run_that_does_nothing_at_all_is_ended(tmp_path: Path) -> None:
    """One that waits for a lock uses no CPU time, so that no limit of that would end it."""
    async with Aside(tmp_path, replace(AMPLE, stall_s=0.2)) as aside:
        await aside.open("loop")
        told, before = Told(), aside.process.figures.cpu_s
        aside.process.submit(running(LONG), told)
        await until(lambda: aside.process.figures.cpu_s > before + 0.02)
        pid = aside.process.figures.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        failed = of_kind(await told.next(), JobFailed)
    assert "did nothing for 0.2 s" in failed.reason


async def test_it_ends_with_a_server_that_is_killed_also_when_it_is_held_still(tmp_path: Path) -> None:
    """Nobody is left to end it then: the kernel does."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path / "models"), stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )
    assert parent.stdout is not None
    line = b""
    async with asyncio.timeout(30):
        while not line.startswith(b"PID"):
            line = await parent.stdout.readline()
            assert line
    pid = int(line.split()[1])
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    await parent.wait()
    await until(lambda: not is_there(pid))
    await parent.stdout.read()


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for somebody to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


PARENT = """
import asyncio, sys
from pathlib import Path
from support.aside import Aside

async def main():
    root = Path(sys.argv[1])
    root.mkdir()
    async with Aside(root) as aside:
        await aside.open()
        print("PID", aside.process.figures.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(aside_support.__file__).parent.parent)}
