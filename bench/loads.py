"""Ways of loading a server: how many requests are in flight, or come in a second, and who sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Client = Literal["perf_analyzer", "asyncio"]
"""Triton's C++ program, or `bench.load`."""


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop of `in_flight` requests, or an open one of Poisson arrivals.

    An open loop's `rate`, requests a second, is `share` of what the same client got through in the closed
    loop with `SHARE_OF` in flight; 0 until that is measured.
    """

    client: Client
    in_flight: int = 0
    share: float = 0.0
    rate: float = 0.0

    @property
    def open(self) -> bool:
        """Whether requests come at their own time."""
        return bool(self.share)

    @property
    def name(self) -> str:
        """For tables: `8 in flight` or `Poisson, 80 %`; our own client is named."""
        by = "" if self.client == "perf_analyzer" else ", asyncio"
        return (f"Poisson, {self.share:.0%}" if self.open else f"{self.in_flight} in flight") + by


SHARE_OF = 8
"""The closed loop that open loops are a share of."""


def planned_loads(levels: list[int], clients: list[Client], *, full: bool) -> list[Load]:
    """The loads of a case in the order in which they run: closed ones first, then what is a share of them.

    Args:
        levels: requests in flight.
        clients: who is there; the first one sends every closed loop.
        full: also 50 %, and the open loops of every client; without it our own client's 80 % alone.
    """
    closed = [Load(clients[0], in_flight=level) for level in levels]
    opened: list[Load] = []
    # perf_analyzer counts a request from when it was sent, our own client from when it was due.
    for client in clients if full else clients[-1:]:
        if client != clients[0] or SHARE_OF not in levels:
            opened.append(Load(client, in_flight=SHARE_OF))
        opened += [Load(client, share=share) for share in ((0.5, 0.8) if full else (0.8,))]
    return closed + opened
