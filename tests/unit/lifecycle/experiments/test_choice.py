"""What streams and sequences have been given stays theirs; all else follows the routes of the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.experiment_config import ExperimentConfig
from naiad.lifecycle.caller import NOBODY, Caller, SequenceStep
from naiad.lifecycle.experiments import choice as subject
from naiad.lifecycle.experiments.assignment import Routes
from naiad.lifecycle.experiments.choice import Choice

if TYPE_CHECKING:
    import pytest


def routes(first: float, second: float, *, ready: tuple[int, ...] = (1, 2)) -> Routes:
    config = ExperimentConfig.model_validate({"weights": {"1": first, "2": second}})
    return Routes(config, ready=ready, now=0.0)


def test_a_stream_keeps_its_version_when_the_weights_move() -> None:
    choice = Choice("m", routes(1, 0), (1, 2))
    stream = Caller("stream a", pins={})
    assert choice.choose(stream) == 1
    choice.routes = routes(0, 1)
    assert choice.choose(stream) == 1
    assert choice.choose(Caller("stream b", pins={})) == 2


def test_a_stream_whose_version_has_gone_gets_another_one_and_keeps_that() -> None:
    choice = Choice("m", routes(0, 1), (1, 2))
    stream = Caller("stream a", pins={})
    assert choice.choose(stream) == 2
    choice.routes, choice.ready = routes(0, 1, ready=(1,)), (1,)
    assert choice.choose(stream) == 1
    choice.routes, choice.ready = routes(0, 1), (1, 2)
    assert choice.choose(stream) == 1


def test_a_sequence_keeps_its_version_to_its_end_and_a_new_one_of_that_id_does_not() -> None:
    choice = Choice("m", routes(1, 0), (1, 2))

    def step(*, starts: bool = False, ends: bool = False) -> int | None:
        return choice.choose(Caller("sequence 7", sequence=SequenceStep(7, starts, ends)))

    assert step(starts=True) == 1
    choice.routes = routes(0, 1)
    assert step() == 1
    assert step(ends=True) == 1
    assert step(starts=True) == 2


def test_sequences_that_never_end_are_forgotten_beyond_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice("m", routes(1, 0), (1, 2))
    monkeypatch.setattr(subject, "MAX_SEQUENCES", 2)
    for number in range(3):
        choice.choose(Caller(f"sequence {number}", sequence=SequenceStep(number, starts=True)))
    choice.routes = routes(0, 1)
    chosen = [choice.choose(Caller(f"sequence {n}", sequence=SequenceStep(n))) for n in (1, 2, 0)]
    assert chosen == [1, 1, 2]


def test_nobody_draws_and_a_key_does_not() -> None:
    choice = Choice("m", routes(1, 1), (1, 2))
    assert {choice.choose(NOBODY) for _ in range(200)} == {1, 2}
    assert len({choice.choose(Caller("alice")) for _ in range(200)}) == 1
