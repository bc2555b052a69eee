"""Which version a caller gets: by its sequence, its stream, its key, or a draw."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from naiad.lifecycle.caller import MAX_PINS, ONLOOKER

if TYPE_CHECKING:
    from collections.abc import Collection

    from naiad.lifecycle.caller import Caller, SequenceStep
    from naiad.lifecycle.experiments.assignment import Routes

MAX_SEQUENCES = 100_000
"""Sequences whose version is remembered; beyond that the oldest is chosen for by its key."""


class Choice:
    """The versions that streams and sequences were given, over the routes of the moment.

    What has been given is kept for as long as that version serves, whatever the weights become: a stream or a
    sequence does not change its version midway. Of a version that is rolled back sequences, whose state lies
    there, keep to it; streams that hold on are told to end, others go on with what answers then.
    """

    def __init__(self, model: str, routes: Routes, ready: Collection[int]) -> None:
        self.routes = routes
        self.ready = ready
        self.withdrawn: Collection[int] = ()
        """Versions that were rolled back."""
        self._model = model
        self._sequences: OrderedDict[int | str, int] = OrderedDict()

    def follow(self, before: Choice) -> None:
        """Go on with the sequences of an experiment that this one takes the place of."""
        self._sequences = before._sequences

    def choose(self, caller: Caller) -> int | None:
        """The version for a caller; None if no version of the experiment serves."""
        if caller is ONLOOKER:
            return self.routes.standing
        if caller.sequence is not None:
            return self._of_sequence(caller, caller.sequence)
        if caller.pins is None:
            return self.routes.choose(caller.key)
        pinned = caller.pins.get(self._model)
        if pinned in self.ready:
            caller.is_withdrawn |= caller.holds_on and pinned in self.withdrawn
            if caller.holds_on or pinned not in self.withdrawn:
                return pinned
        chosen = self.routes.choose(caller.key)
        if chosen is not None and len(caller.pins) < MAX_PINS:
            caller.pins[self._model] = chosen
        return chosen

    def _of_sequence(self, caller: Caller, step: SequenceStep) -> int | None:
        given = None if step.starts else self._sequences.get(step.id)
        chosen = given if given in self.ready else self.routes.choose(caller.key)
        if step.ends:
            self._sequences.pop(step.id, None)
        elif chosen is not None and chosen != given:
            self._sequences[step.id] = chosen
            while len(self._sequences) > MAX_SEQUENCES:
                self._sequences.popitem(last=False)
        return chosen
