"""`make fuzz`: made-up requests against a server process of its own, then the parsers one by one.

Exit code 0 only if every request was answered or refused as the protocol says, the server still answers right,
its memory has not grown after the warm-up, and no parser let an unexpected exception out.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from fuzz import wire
from fuzz.batches import BATCH, KINDS, Case, load_case, make_batch, save_case, unpacked
from fuzz.models import shared_memory_object, write_repository
from fuzz.targets.running import TARGETS, run_target
from fuzz.wire import GrpcPeer, ask_http
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from support.processes import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OUTPUT = Path(__file__).parents[2] / "build" / "fuzz"
CONCURRENCY = 32
MARK = 10_000
WARM_UP = 0.3
"""The part of the requests after which memory must stay as it is."""

MAX_GROWTH = 0.05
MAX_FAULTS = 20
FLAGS = (
    "--model-control-mode=explicit",
    "--load-model=*",
    "--allow-client-shm=true",
    "--http-stall-timeout-secs=0.2",
    "--http-keep-alive-secs=0.2",
)

console = Console(width=100, highlight=False)


@dataclass
class Findings:
    """What a run saw: answers by kind and status, memory at the marks, what must not be.

    Memory is counted twice: as it is, and when the server has returned what is free on its heaps, which it
    otherwise keeps warm on purpose. Only the second can tell a leak from a large request.
    """

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    rss_mib: dict[int, tuple[float, float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Sender:
    """Sends cases to one server and notes what comes back."""

    def __init__(self, grpc_peer: GrpcPeer, http_port: int, findings: Findings) -> None:
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._findings = findings
        self._senders: dict[str, Callable[..., Awaitable[str | list[str]]]] = {
            "infer": grpc_peer.infer,
            "wire": grpc_peer.send,
            "stream": grpc_peer.stream,
            "http": lambda request: ask_http(http_port, request),
        }

    async def send(self, case: Case) -> None:
        """One case; a fault is kept in a file."""
        async with self._slots:
            try:
                statuses = await self._senders[case.kind](case.content)
            except (wire.Fault, OSError) as fault:
                path = save_case(OUTPUT, case)
                self._findings.faults.append(f"{path}: {str(fault)[:500]}")
                statuses = "FAULT"
        self._findings.counts[case.kind].update([statuses] if isinstance(statuses, str) else statuses)


@contextlib.asynccontextmanager
async def connected(ready: dict[str, Any]) -> AsyncIterator[GrpcPeer]:
    """A client of the server that said it is ready, with a region of shared memory registered."""
    with shared_memory_object() as key:
        async with GrpcPeer(ready["grpc"]) as peer:
            await peer.register_region(key)
            yield peer


async def weigh(grpc_peer: GrpcPeer, pid: int) -> tuple[float, float]:
    """The server's resident memory as it is and when its heaps are trimmed."""
    before = rss_mib(pid)
    await grpc_peer.reload_spare()
    return before, rss_mib(pid)


def rss_mib(pid: int) -> float:
    """A process's resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1_024


async def send_all(process: ServerProcess, requests: int, seed: int, findings: Findings) -> None:
    """Make and send that many requests; a process of its own makes the next batch meanwhile."""
    ready = process.wait_for("ready")
    context = multiprocessing.get_context("spawn")
    async with connected(ready) as grpc_peer:
        sender = Sender(grpc_peer, int(ready["http"].rpartition(":")[2]), findings)
        await grpc_peer.check()
        findings.rss_mib[0] = await weigh(grpc_peer, process.process.pid)
        loop = asyncio.get_running_loop()
        batches = -(-requests // BATCH)
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
        with (
            ProcessPoolExecutor(1, mp_context=context) as pool,
            Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress,
        ):
            task = progress.add_task("requests", total=batches * BATCH)
            following = loop.run_in_executor(pool, make_batch, seed, 0)
            for index in range(batches):
                cases = [unpacked(*packed) for packed in await following]
                following = loop.run_in_executor(pool, make_batch, seed, min(index + 1, batches - 1))
                await asyncio.gather(*map(sender.send, cases))
                await grpc_peer.check()
                done = (index + 1) * BATCH
                if done % MARK == 0 or index == batches - 1:
                    findings.rss_mib[done] = await weigh(grpc_peer, process.process.pid)
                progress.update(task, completed=done)
                if process.process.poll() is not None or len(findings.faults) > MAX_FAULTS:
                    break
            following.cancel()


def report(findings: Findings, seconds: float) -> bool:
    """Print what was seen; whether it is as it must be."""
    for kind, counts in findings.counts.items():
        console.print(f"{kind:7}", ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
    table = Table("requests", "RSS, MiB", "without free heap, MiB")
    for done, (rss, trimmed) in findings.rss_mib.items():
        table.add_row(f"{done:,}", f"{rss:.1f}", f"{trimmed:.1f}")
    console.print(table)
    total = max(findings.rss_mib)
    warm = next(trimmed for done, (_, trimmed) in sorted(findings.rss_mib.items()) if done >= total * WARM_UP)
    growth = findings.rss_mib[total][1] / warm - 1
    console.print(f"{total:,} requests in {seconds:.0f} s, memory after warm-up {growth:+.1%}")
    for fault in findings.faults:
        console.print(f"[red]{fault}", markup=True)
    return not findings.faults and growth < MAX_GROWTH


def fuzz_server(requests: int, seed: int, replay: Path | None) -> bool:
    """Fuzz a server process, or send it one kept case again; whether all is well."""
    findings = Findings()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        repository = write_repository(Path(folder))
        with ServerProcess(repository, *FLAGS) as process:
            try:
                if replay is not None:
                    asyncio.run(send_again(process, replay, findings))
                else:
                    asyncio.run(send_all(process, requests, seed, findings))
            except wire.Fault as fault:  # the good request after a batch
                findings.faults.append(str(fault))
            if process.process.poll() is not None:
                findings.faults.append(f"the server ended with code {process.process.returncode}")
            findings.faults += [str(line) for line in process.log if line["event"] == "unexpected error"]
    return report(findings, time.monotonic() - started)


async def send_again(process: ServerProcess, path: Path, findings: Findings) -> None:
    """Send one kept case."""
    ready = process.wait_for("ready")
    async with connected(ready) as grpc_peer:
        sender = Sender(grpc_peer, int(ready["http"].rpartition(":")[2]), findings)
        await sender.send(load_case(path))
        await grpc_peer.check()
        findings.rss_mib[1] = await weigh(grpc_peer, process.process.pid)


def main(
    requests: Annotated[int, typer.Option(help="Requests to send.")] = 100_000,
    seed: Annotated[int, typer.Option(help="What the requests are made from.")] = 1,
    target_seconds: Annotated[int, typer.Option(help="Seconds for each parser; 0 leaves them out.")] = 60,
    replay: Annotated[Path | None, typer.Option(help="A kept case to send again.")] = None,
) -> None:
    """Fuzz the server and its parsers."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    console.print(f"seed {seed}")
    is_well = fuzz_server(requests, seed, replay)
    if target_seconds and replay is None:
        for name in TARGETS:
            result = run_target(name, target_seconds, seed, OUTPUT)
            console.print(f"{name:15} {result.summary}")
            is_well = is_well and result.is_well
    console.print("[green]well" if is_well else "[red]not well", markup=True)
    raise typer.Exit(0 if is_well else 1)


if __name__ == "__main__":
    typer.run(main)
