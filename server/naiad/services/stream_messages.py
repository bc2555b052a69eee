"""The messages about a stream beside its frames: the contract that is asked for, and what is told of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.dataplane.frames.contract import Contract, DropReason, FramePolicy, ResultOrder
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.dataplane.frames.ledger import Entry, FrameLedger, Statement

_MS = 1_000_000

_POLICIES = {
    pb.FRAME_POLICY_UNSPECIFIED: FramePolicy.EVERY_FRAME,
    pb.FRAME_POLICY_EVERY_FRAME: FramePolicy.EVERY_FRAME,
    pb.FRAME_POLICY_LATEST_WINS: FramePolicy.LATEST_WINS,
}
_ORDERS = {
    pb.RESULT_ORDER_UNSPECIFIED: ResultOrder.FRAMES,
    pb.RESULT_ORDER_FRAMES: ResultOrder.FRAMES,
    pb.RESULT_ORDER_READY: ResultOrder.READY,
}
_POLICY_NUMBERS = {
    FramePolicy.EVERY_FRAME: pb.FRAME_POLICY_EVERY_FRAME,
    FramePolicy.LATEST_WINS: pb.FRAME_POLICY_LATEST_WINS,
}
_ORDER_NUMBERS = {
    ResultOrder.FRAMES: pb.RESULT_ORDER_FRAMES,
    ResultOrder.READY: pb.RESULT_ORDER_READY,
}
_REASONS = {
    DropReason.SUPERSEDED: pb.DROP_REASON_SUPERSEDED,
    DropReason.TOO_OLD: pb.DROP_REASON_TOO_OLD,
}


async def stream_options(requests: AsyncIterator[Any]) -> Any:
    """The options that must open a stream.

    Raises:
        InvalidArgumentError: the first message has none.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("message") != "options":
        raise InvalidArgumentError("the first message of a stream must carry 'options'")
    return first.options


def frame_of(message: Any) -> pb.Frame:
    """The frame of a stream's further message.

    Raises:
        InvalidArgumentError: it has none.
    """
    if message.WhichOneof("message") != "frame":
        raise InvalidArgumentError("each message of a stream after the first must carry a 'frame'")
    frame: pb.Frame = message.frame
    return frame


def contract_of(options: Any, limit: int) -> Contract:
    """The contract that a stream's options ask for, every frame in order without one.

    Args:
        options: of any of the streams.
        limit: the most frames in flight (`--stream-max-in-flight`).

    Raises:
        InvalidArgumentError: a policy or an order is unknown.
        ResourceExhaustedError: more frames are to be in flight than may be.
    """
    asked = options.contract
    if asked.max_in_flight > limit:
        raise ResourceExhaustedError(
            f"contract.max_in_flight is {asked.max_in_flight}, the limit is {limit} (--stream-max-in-flight)"
        )
    if asked.policy not in _POLICIES:
        raise InvalidArgumentError(
            f"contract.policy is {asked.policy}, it must be EVERY_FRAME or LATEST_WINS"
        )
    if asked.order not in _ORDERS:
        raise InvalidArgumentError(f"contract.order is {asked.order}, it must be FRAMES or READY")
    return Contract(
        max_in_flight=asked.max_in_flight or limit,
        policy=_POLICIES[asked.policy],
        order=_ORDERS[asked.order],
        max_age_ns=asked.max_age_ms * _MS or None,
        frame_deadline_ns=asked.frame_deadline_ms * _MS or None,
    )


def contract_message(contract: Contract) -> pb.StreamContract:
    """The contract in force."""
    return pb.StreamContract(
        policy=_POLICY_NUMBERS[contract.policy],
        order=_ORDER_NUMBERS[contract.order],
        max_in_flight=contract.max_in_flight,
        max_age_ms=(contract.max_age_ns or 0) // _MS,
        frame_deadline_ms=(contract.frame_deadline_ns or 0) // _MS,
    )


def account_message(statement: Statement) -> pb.StreamAccount:
    """How a stream stands."""
    account = pb.StreamAccount()
    fill_account(account, statement)
    return account


def fill_account(
    account: pb.StreamAccount, statement: Statement, entry: Entry[Any, Any] | None = None
) -> None:
    """Write how a stream stands into its place in a message, which may be the answer to a frame."""
    account.credit_limit = statement.credit_limit
    for reason, frame_ids in statement.dropped.items():
        account.dropped.add(reason=_REASONS[reason], frame_ids=frame_ids)
    if entry is not None:
        _fill_times(account.times, entry)


def _fill_times(times: pb.FrameTimes, entry: Entry[Any, Any]) -> None:
    """When a frame was received, begun with (0 if never) and answered, which is now."""
    now_us = time.time_ns() // 1_000
    # The server's clock may be set while a stream lasts, so its distance is taken anew each time.
    offset_us = now_us - time.monotonic_ns() // 1_000
    times.received_us = entry.received_ns // 1_000 + offset_us
    times.begun_us = entry.begun_ns // 1_000 + offset_us if entry.begun_ns else 0
    times.answered_us = now_us


def closed_message(ledger: FrameLedger[Any, Any]) -> pb.StreamClosed:
    """What became of a stream's frames, all told."""
    return pb.StreamClosed(
        frames_received=ledger.received,
        frames_answered=ledger.answered,
        frames_failed=ledger.failed,
        frames_dropped=ledger.dropped_count,
    )
