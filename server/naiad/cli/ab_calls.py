"""Calls of the experiment service, as `naiad ab` makes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from naiad.cli.server_calls import ANSWER_S, metadata_of, open_channel, reasons
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


class ExperimentCalls:
    """A connection to a server. A context manager."""

    def __init__(self, address: str, headers: Sequence[str] = ()) -> None:
        """Connect, as soon as something is called.

        Args:
            address: `HOST:PORT` of gRPC, without TLS.
            headers: `NAME=VALUE`, sent with each call.

        Raises:
            InvalidArgumentError: a header is not so.
        """
        self._address = address
        self._metadata = metadata_of(headers)
        self._channel = open_channel(address)
        self._stub = experiments_pb2_grpc.ExperimentServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def models(self) -> list[str]:
        """The models that have an experiment in force; raises UnavailableError if no server answers."""
        with reasons(self._address):
            answer = self._stub.ListExperiments(
                pb.ListExperimentsRequest(), timeout=ANSWER_S, metadata=self._metadata
            )
        return list(answer.models)

    def report(self, model: str) -> ExperimentReport:
        """What was learnt about a model's versions.

        Raises:
            NotFoundError: it has no experiment.
            UnavailableError: no server answers.
        """
        with reasons(self._address):
            answer = self._stub.GetReport(
                pb.GetReportRequest(model=model), timeout=ANSWER_S, metadata=self._metadata
            )
        return _report(answer.report)

    def decide(self, model: str, kind: Kind, candidate: int, *, reason: str, by: str) -> ExperimentReport:
        """Decide by hand; a candidate of 0 resumes all.

        Raises:
            NotFoundError: the model has no experiment.
            InternalError: the server refuses; in its words.
            UnavailableError: no server answers.
        """
        request = pb.DecideRequest(model=model, kind=_KINDS[kind], candidate=candidate, reason=reason, by=by)
        with reasons(self._address):
            answer = self._stub.Decide(request, timeout=ANSWER_S, metadata=self._metadata)
        return _report(answer.report)


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
