"""Calls of the experiment service, as `naiad ab` makes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from naiad.cli.server_calls import ServerCalls
from naiad.lifecycle.experiments.report import from_json
from naiad_protos.naiad.experiments.v1 import experiments_pb2 as pb
from naiad_protos.naiad.experiments.v1 import experiments_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.lifecycle.experiments.decisions import Kind
    from naiad.lifecycle.experiments.report import ExperimentReport

_KINDS: dict[Kind, Any] = {
    "roll_back": pb.DECISION_KIND_ROLL_BACK,
    "promote": pb.DECISION_KIND_PROMOTE,
    "resume": pb.DECISION_KIND_RESUME,
}
_OURS = ("decisions", "next_change_at")
"""Of the message, and not of what is shown: the notes tell it."""


class ExperimentCalls(ServerCalls):
    """A connection to a server. A context manager."""

    def __init__(self, address: str, headers: Sequence[str] = ()) -> None:
        """Connect, as soon as something is called; the arguments are those of `ServerCalls`."""
        super().__init__(address, headers)
        self._stub = experiments_pb2_grpc.ExperimentServiceStub(self.channel)

    def models(self) -> list[str]:
        """The models that have an experiment in force; raises UnavailableError if no server answers."""
        return list(self.ask(self._stub.ListExperiments, pb.ListExperimentsRequest()).models)

    def report(self, model: str) -> ExperimentReport:
        """What was learnt about a model's versions.

        Raises:
            NotFoundError: it has no experiment.
            UnavailableError: no server answers.
        """
        return _report(self.ask(self._stub.GetReport, pb.GetReportRequest(model=model)).report)

    def decide(self, model: str, kind: Kind, candidate: int, *, reason: str, by: str) -> ExperimentReport:
        """Decide by hand; a candidate of 0 resumes all.

        Raises:
            NotFoundError: the model has no experiment.
            InternalError: the server refuses; in its words.
            UnavailableError: no server answers.
        """
        request = pb.DecideRequest(model=model, kind=_KINDS[kind], candidate=candidate, reason=reason, by=by)
        return _report(self.ask(self._stub.Decide, request).report)


def _report(message: pb.Report) -> ExperimentReport:
    return from_json(json.dumps({name: each for name, each in _plain(message).items() if name not in _OURS}))


def _plain(message: Any) -> dict[str, Any]:
    """A message's fields by name; None where one is not set."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Any, field: Any) -> Any:
    if not field.is_repeated and field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    return [_plain(each) for each in value] if field.is_repeated else _plain(value)
