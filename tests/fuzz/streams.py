"""Streams of frames under random clients: `cd tests && python -m fuzz.streams --frames 100000`.

Clients with any contract send good frames and bad ones, read at once, late or not at all, leave in the middle,
and come again. Exit code 0 only if every frame of every stream that went to its end is accounted for, once, in
the contract's order, and if the server holds nothing for any stream at the end.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from support.frame_streams import BROKEN, GREY, DetectStream
from support.repositories import add_model
from support.servers import address, metrics_address, server
from support.vision_models import DETECTOR_CONFIG, brightness_detector

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from naiad.app import NaiadServer

CLIENTS = 24
MAX_FRAMES = 120
"""Of one stream."""

console = Console(width=110, highlight=False)


@dataclass
class Account:
    """What became of all frames, as their clients were told, and what was wrong."""

    sent: int = 0
    left: int = 0
    """Frames of streams whose client left, of which it was told nothing."""
    told: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Client:
    """One stream after the other, over a channel that is opened anew now and then."""

    def __init__(self, target: str, dice: random.Random, account: Account) -> None:
        self._target = target
        self._dice = dice
        self._account = account

    async def run(self, frames: int) -> None:
        """Streams until all clients together have sent so many frames."""
        while self._account.sent < frames:
            async with grpc.aio.insecure_channel(self._target) as channel:
                for _ in range(self._dice.randint(1, 6)):
                    await self._stream(channel)
                    if self._account.sent >= frames:
                        return

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        dice, account = self._dice, self._account
        contract = self._contract()
        stream = await DetectStream(channel, contract, tracks=self._tracks(contract)).open()
        count = dice.randint(1, MAX_FRAMES)
        leaves_at = dice.randint(1, 2 * count) if dice.random() < 0.25 else None
        sending = asyncio.ensure_future(self._send(stream, count))
        seen: list[Any] = []
        if dice.random() < 0.2:
            await sending  # a client that reads nothing until it has sent all
        lag = dice.choice((0, 0, 0, 3, 40))
        while (response := await stream.next()) is not None:
            seen.append(response)
            if leaves_at is not None and len(seen) >= leaves_at:
                stream.call.cancel()
                sending.cancel()
                break
            for _ in range(lag):
                await asyncio.sleep(0)
        await asyncio.gather(sending, return_exceptions=True)
        account.sent += stream.sent
        account.streams["left" if leaves_at is not None and len(seen) >= leaves_at else "ended"] += 1
        self._judge(contract, stream.sent, seen)

    async def _send(self, stream: DetectStream, count: int) -> None:
        for _ in range(count):
            await stream.send(image=BROKEN if self._dice.random() < 0.05 else GREY)
            if self._dice.random() < 0.3:
                await asyncio.sleep(0)
        await stream.call.done_writing()

    def _contract(self) -> pb.StreamContract:
        dice = self._dice
        return pb.StreamContract(
            policy=dice.choice(pb.FramePolicy.values()),
            order=dice.choice(pb.ResultOrder.values()),
            max_in_flight=dice.choice((0, 1, 1, 2, 8)),
            max_age_ms=dice.choice((0, 0, 1, 30)),
            frame_deadline_ms=dice.choice((0, 0, 5, 100)),
        )

    def _tracks(self, contract: pb.StreamContract) -> pb.TrackOptions | None:
        wants = contract.order != pb.RESULT_ORDER_READY and self._dice.random() < 0.3
        return pb.TrackOptions() if wants else None

    def _judge(self, contract: pb.StreamContract, sent: int, seen: list[Any]) -> None:
        """Count what a stream was told, and see that it adds up."""
        account = self._account
        outcomes = [(response.WhichOneof("outcome"), response.frame_id) for response in seen]
        answers = [frame_id for kind, frame_id in outcomes if kind in ("result", "error")]
        drops = [
            frame_id
            for response in seen
            for dropped in response.account.dropped
            for frame_id in dropped.frame_ids
        ]
        credits_told = [response.account.credit_limit for response in seen]
        told = Counter(kind for kind, _ in outcomes if kind in ("result", "error"))
        account.told.update(told)
        account.told["dropped"] += len(drops)
        faults = []
        if len({*answers, *drops}) != len(answers) + len(drops):
            faults.append("a frame was told of twice")
        if contract.order != pb.RESULT_ORDER_READY and answers != sorted(answers):
            faults.append("results out of order")
        if credits_told != sorted(credits_told):
            faults.append("credit shrank")
        if seen and outcomes[0][0] != "opened":
            faults.append("not opened first")
        if seen and outcomes[-1][0] == "closed":
            closed = seen[-1].closed
            if {*answers, *drops} != {*range(1, sent + 1)}:
                faults.append(f"{sent - len(answers) - len(drops)} of {sent} frames unaccounted for")
            counted = (closed.frames_received, closed.frames_answered, closed.frames_failed)
            if (*counted, closed.frames_dropped) != (sent, told["result"], told["error"], len(drops)):
                faults.append(f"closed with {closed}, and told {told} of {sent}")
        else:
            account.left += sent - len(answers) - len(drops)
        account.faults += [f"{fault}: {contract}" for fault in faults]


async def held(running: NaiadServer) -> dict[str, float]:
    """What the server's metrics say of streams, summed over models."""
    url = f"http://{metrics_address(running)}/metrics"
    text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("naiad_stream") and "_age_" not in sample.name:
                sums[" ".join((sample.name, sample.labels.get("outcome", ""))).strip()] += sample.value
    return dict(sums)


async def soak(folder: Path, frames: int, seed: int, **settings: Any) -> Account:
    """Send so many frames, and say what became of them."""
    add_model(folder, "detector", brightness_detector(), DETECTOR_CONFIG)
    account = Account()
    async with server(folder, stream_max_in_flight=16, **settings) as running:
        dice = random.Random(seed)
        clients = [Client(address(running), random.Random(dice.random()), account) for _ in range(CLIENTS)]
        await asyncio.gather(*(client.run(frames) for client in clients))
        # Cancelled calls end a moment after their clients have left.
        await asyncio.wait_for(_until_idle(running), 30)
        shown = await held(running)
        account.told.update({f"server: {name}": int(value) for name, value in shown.items()})
        await asyncio.wait_for(running.manager.drain(), 30)
    return account


async def _until_idle(running: NaiadServer) -> None:
    while True:
        shown = await held(running)
        if not shown.get("naiad_streams") and not shown.get("naiad_stream_frames_at_work"):
            return


def main(
    frames: Annotated[int, typer.Option(help="How many frames to send in all.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 1,
    transport: Annotated[str, typer.Option(help="The server's --grpc-transport.")] = "naiad",
) -> None:
    """Soak the streams, print the account."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        account = asyncio.run(soak(Path(folder), frames, seed, grpc_transport=transport))
    console.print(
        f"{account.sent} frames in {time.monotonic() - started:.0f} s, streams {dict(account.streams)}"
    )
    for name, count in sorted(account.told.items()):
        console.print(f"  {name}: {count}")
    console.print(f"  of streams whose client left, untold: {account.left}")
    for fault in account.faults[:20]:
        console.print(f"FAULT {fault}")
    raise typer.Exit(1 if account.faults else 0)


if __name__ == "__main__":
    typer.run(main)
