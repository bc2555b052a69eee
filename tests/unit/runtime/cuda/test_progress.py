"""A lane's state: what may come next, who ends a batch, and when a lane can be closed."""

from __future__ import annotations

import pytest

from naiad.core.errors import CancelledError, InternalError, UnavailableError
from naiad.runtime.cuda.progress import LaneProgress, LaneState

WAY = [LaneState.FILLING, LaneState.QUEUED, LaneState.RUNNING, LaneState.EMPTYING]


def at(state: LaneState) -> LaneProgress:
    """A lane that has come as far as `state`."""
    progress = LaneProgress()
    for step in WAY[: WAY.index(state) + 1] if state in WAY else []:
        progress.advance(step)
    return progress


def test_a_batch_goes_one_way_and_the_lane_is_idle_again() -> None:
    progress = at(LaneState.EMPTYING)
    progress.end()
    assert progress.state is LaneState.IDLE
    progress.advance(LaneState.FILLING)


@pytest.mark.parametrize("state", [LaneState.IDLE, *WAY])
@pytest.mark.parametrize("step", [LaneState.IDLE, *WAY])
def test_only_the_next_step_is_taken(state: LaneState, step: LaneState) -> None:
    """A second batch in a lane whose buffers are in use is a mistake that must not pass."""
    progress = at(state)
    order = [LaneState.IDLE, *WAY]
    if order.index(step) == order.index(state) + 1:
        progress.advance(step)
        assert progress.state is step
    else:
        with pytest.raises(InternalError, match=f"is {state.value} and cannot go on to {step.value}"):
            progress.advance(step)
        assert progress.state is state


@pytest.mark.parametrize("state", WAY)
def test_a_batch_that_fails_anywhere_leaves_an_idle_lane(state: LaneState) -> None:
    progress = at(state)
    progress.end()
    assert progress.state is LaneState.IDLE


@pytest.mark.parametrize("state", [LaneState.FILLING, LaneState.QUEUED])
def test_a_batch_that_is_terminated_before_its_run_never_runs(state: LaneState) -> None:
    progress = at(state)
    progress.terminate()
    with pytest.raises(CancelledError):
        progress.advance(WAY[WAY.index(state) + 1])
    assert progress.state is LaneState.IDLE


def test_a_run_that_is_terminated_too_late_still_gives_its_outputs() -> None:
    progress = at(LaneState.RUNNING)
    progress.terminate()
    progress.advance(LaneState.EMPTYING)


def test_rearmed_it_runs_again() -> None:
    progress = at(LaneState.FILLING)
    progress.terminate()
    progress.rearm()
    progress.advance(LaneState.QUEUED)


def test_a_closed_lane_takes_nothing_and_stays_closed() -> None:
    progress = LaneProgress()
    assert progress.close()
    assert not progress.close()
    progress.end()
    with pytest.raises(UnavailableError, match="closed"):
        progress.advance(LaneState.FILLING)


@pytest.mark.parametrize("state", WAY)
def test_a_lane_with_a_batch_in_it_cannot_be_closed(state: LaneState) -> None:
    """Its buffers would be freed under a copy or a run."""
    with pytest.raises(InternalError, match=f"is {state.value} and cannot be closed"):
        at(state).close()
