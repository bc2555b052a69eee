"""What a stream's two ends have agreed on: policy, order, how many frames at once, and how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FramePolicy(Enum):
    """What happens to frames that come faster than they are worked on."""

    EVERY_FRAME = "every_frame"
    LATEST_WINS = "latest_wins"


class ResultOrder(Enum):
    """In which order results leave: that of the frames, or each as soon as it is there."""

    FRAMES = "frames"
    READY = "ready"


class DropReason(Enum):
    """Why a frame has no result and never will: a newer one came, or it waited beyond `max_age_ns`."""

    SUPERSEDED = "superseded"
    TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True)
class Contract:
    """A stream's contract, nothing in it unspecified.

    `max_in_flight` frames are held at once: those at work and those whose results wait to be written; with
    `EVERY_FRAME` also those that wait to be begun with. `max_age_ns` after its arrival a frame that was not
    begun with is dropped; `frame_deadline_ns` after its arrival one without a result has failed. None is
    without limit.
    """

    max_in_flight: int
    policy: FramePolicy = FramePolicy.EVERY_FRAME
    order: ResultOrder = ResultOrder.FRAMES
    max_age_ns: int | None = None
    frame_deadline_ns: int | None = None

    @property
    def window(self) -> int:
        """How many frames a client may have sent beyond those that are finished."""
        # With LATEST_WINS one waits beside those at work.
        return self.max_in_flight + (self.policy is FramePolicy.LATEST_WINS)
