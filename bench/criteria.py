"""What is wanted of the figures, all of it in one place, and whether it was reached. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from bench.results import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.results import Row

PEERS = ("Triton", "MLServer")
DISTURBED = 0.25
"""A spread of the limit's rounds above this: the machine did other things, verdicts are luck."""


class Reference(NamedTuple):
    """What was measured of a tuned Triton 2.51 (two instances of one thread) on another 2-core machine.

    `bare` is bare ONNX Runtime there, requests/s: how fast that machine is, to compare this one with.
    `p99_ms` is with 8 clients.
    """

    bare: float
    p99_ms: float


TUNED_TRITON = {
    "ultraface": Reference(1_620, 12.07),
    "yunet": Reference(1_335, 15.0),
    "mobilefacenet": Reference(937, 11.5),
}
TRITON_STREAMED_PER_S = 20_600
"""add/sub on streams with 8 clients, the same Triton and machine."""

RATIO = {"ultraface": 0.60, "yunet": 0.58, "mobilefacenet": 0.91}
"""Share of bare with 8 clients: UltraFace's a little above what the best 60-line `grpc.aio` server reached
(0.51 to 0.56), the others what the tuned Triton did (780 of 1,335 and 850 of 937 a second)."""
P99_FACTOR = 1.2
STREAM_SHARE = 0.75
P50_FACTOR, P50_ADDED_MS = 1.05, 0.25
"""One client: what bare takes, 5 % for caches, and a quarter of a millisecond for the way there and back."""
ADD_SUB_P50_MS = 0.3
CPU_BEYOND_US = {"ultraface": 500.0, "add_sub": 110.0}
"""Of a request of 900 KB and of one of 128 bytes: half of what a plain `grpc.aio` server takes."""
SHARED_MEMORY_FACTOR = 3.0
MORE_THAN_BARE = {"mtcnn_stream"}
"""Cases whose server does work that bare does not: it decodes JPEG."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure and its bound, None for what is not known; `note` says why, or how the bound came about."""

    name: str
    measured: float | None
    wanted: float | None
    unit: str
    at_least: bool
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the bound is kept; None where a side of it is missing."""
        if self.measured is None or self.wanted is None:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


def judge(rows: list[Row]) -> list[Verdict]:
    """Every criterion on the rows of a run, also those that it could not measure."""
    figures = _Figures(rows)
    return [
        *_ratios(figures),
        *_tails(figures),
        *_peers(figures),
        *_one_client(figures),
        *_cpu(figures),
        *_wires(figures),
    ]


class _Figures:
    """The rows by what they are."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self.cases = {row.case: row.title for row in rows}

    def served(self, case: str, level: int, target: str = OURS) -> Row | None:
        """A closed loop on a server, by the client that is first in the run."""
        wanted = (case, target, "closed", level)
        return next(
            (row for row in self._rows if (row.case, row.target, row.kind, row.level) == wanted), None
        )

    def bare(self, case: str) -> float | None:
        """The limit of a case, requests/s."""
        limits = (row.requests_per_s for row in self._rows if row.case == case and row.is_limit)
        return next(limits, None)

    def scale(self) -> float | None:
        """How fast this machine is, as often the reference machine: the mean of the models that both ran."""
        measured = [
            (bare, reference.bare)
            for case, reference in TUNED_TRITON.items()
            if (bare := self.bare(case)) is not None
        ]
        if not measured:
            return None
        return prod(here / there for here, there in measured) ** (1 / len(measured))

    def title(self, case: str) -> str:
        """What the case is called."""
        return self.cases.get(case, case)


def _ratios(figures: _Figures) -> Iterator[Verdict]:
    for case, wanted in RATIO.items():
        row = figures.served(case, 8)
        name = f"{figures.title(case)}, 8 clients: share of bare"
        yield Verdict(name, row.ratio if row else None, wanted, "", at_least=True)


def _tails(figures: _Figures) -> Iterator[Verdict]:
    for case, reference in TUNED_TRITON.items():
        row, bare = figures.served(case, 8), figures.bare(case)
        wanted, note = None, "bare was not measured"
        if bare:
            wanted = P99_FACTOR * reference.p99_ms * reference.bare / bare
            note = (
                f"{P99_FACTOR} x {reference.p99_ms} ms of a tuned Triton "
                f"x {reference.bare:,.0f} / {bare:,.0f} (bare there / here)"
            )
        yield Verdict(
            f"{figures.title(case)}, 8 clients: p99",
            row.p99_ms if row else None,
            wanted,
            "ms",
            at_least=False,
            note=note,
        )


def _peers(figures: _Figures) -> Iterator[Verdict]:
    for peer in PEERS:
        for case, title in figures.cases.items():
            own, other = figures.served(case, 8), figures.served(case, 8, peer)
            if own is None or other is None:
                continue
            note = other.failure or f"{peer}'s rate in this run"
            name = f"{title}, 8 clients: ahead of {peer}"
            yield Verdict(name, own.requests_per_s, other.requests_per_s, "/s", at_least=True, note=note)


def _one_client(figures: _Figures) -> Iterator[Verdict]:
    for case, title in figures.cases.items():
        row = figures.served(case, 1)
        if row is None or row.p50_beyond_ms is None or row.p50_ms is None or case in MORE_THAN_BARE:
            continue
        bare = row.p50_ms - row.p50_beyond_ms
        note = f"{P50_FACTOR} x {bare:.3f} ms of bare + {P50_ADDED_MS} ms"
        wanted = P50_FACTOR * bare + P50_ADDED_MS
        yield Verdict(f"{title}, 1 client: p50", row.p50_ms, wanted, "ms", at_least=False, note=note)
    row = figures.served("add_sub", 1)
    name = f"{figures.title('add_sub')}, 1 client: p50, absolute"
    yield Verdict(name, row.p50_ms if row else None, ADD_SUB_P50_MS, "ms", at_least=False)


def _cpu(figures: _Figures) -> Iterator[Verdict]:
    for case, wanted in CPU_BEYOND_US.items():
        row = figures.served(case, 8)
        name = f"{figures.title(case)}, 8 clients: server CPU a request beyond bare"
        yield Verdict(name, row.cpu_beyond_us if row else None, wanted, "us", at_least=False)


def _wires(figures: _Figures) -> Iterator[Verdict]:
    row, scale = figures.served("add_sub_stream", 8), figures.scale()
    yield Verdict(
        f"{figures.title('add_sub_stream')}, 8 clients: requests/s",
        row.requests_per_s if row else None,
        None if scale is None else STREAM_SHARE * TRITON_STREAMED_PER_S * scale,
        "/s",
        at_least=True,
        note="the reference models were not measured"
        if scale is None
        else f"{STREAM_SHARE} x {TRITON_STREAMED_PER_S:,} of Triton x {scale:.2f} (bare here / there)",
    )
    plain, shared = figures.served("identity", 8), figures.served("identity_shm", 8)
    factor = None
    if plain and shared and plain.requests_per_s and shared.requests_per_s:
        factor = shared.requests_per_s / plain.requests_per_s
    name = "1 MiB, 8 clients: system shared memory as often plain gRPC"
    yield Verdict(name, factor, SHARED_MEMORY_FACTOR, "x", at_least=True)
