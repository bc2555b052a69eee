"""`naiad.experiments.v1.ExperimentService`: what was learnt about versions, and decisions by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.lifecycle.experiments.decisions import GUARD
from naiad.services.experiment_messages import KINDS, report_message
from naiad.services.status import rpc
from naiad_protos.naiad.experiments.v1 import experiments_pb2 as pb
from naiad_protos.naiad.experiments.v1 import experiments_pb2_grpc

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from naiad.lifecycle.experiments.director import Experiments
    from naiad.services.calls import Calls

    Context = ServicerContext[Any, Any]

MAX_TEXT_LENGTH = 1_000
"""Characters of a reason or a name that is given with a decision."""


class ExperimentService(experiments_pb2_grpc.ExperimentServiceServicer):
    """Answers from the experiments in force. Used on the event loop's thread."""

    def __init__(self, experiments: Experiments, calls: Calls, *, takes_decisions: bool) -> None:
        """Create the service.

        Args:
            experiments: those of the server.
            calls: the calls at work.
            takes_decisions: whether callers may decide; else only the guard and who edits the files.
        """
        self.calls = calls
        self._experiments = experiments
        self._takes_decisions = takes_decisions

    @rpc
    async def ListExperiments(
        self, request: pb.ListExperimentsRequest, context: Context
    ) -> pb.ListExperimentsResponse:
        """The models that have an experiment in force."""
        return pb.ListExperimentsResponse(models=[each.model for each in self._experiments])

    @rpc
    async def GetReport(self, request: pb.GetReportRequest, context: Context) -> pb.GetReportResponse:
        """What was learnt about the versions of one model."""
        return pb.GetReportResponse(report=self._report(request.model))

    @rpc
    async def Decide(self, request: pb.DecideRequest, context: Context) -> pb.DecideResponse:
        """Roll a candidate back, promote it, or take such a decision back."""
        kind = KINDS.get(request.kind)
        if kind is None:
            raise InvalidArgumentError(f"kind is {request.kind}, it must be ROLL_BACK, PROMOTE or RESUME")
        for name, text in (("reason", request.reason), ("by", request.by)):
            if len(text) > MAX_TEXT_LENGTH:
                raise InvalidArgumentError(
                    f"{name} has {len(text)} characters, the limit is {MAX_TEXT_LENGTH}"
                )
        if request.by == GUARD:
            raise InvalidArgumentError(f"by is '{GUARD}', which is who decides where no person does")
        if not self._takes_decisions:
            raise UnavailableError(
                "decisions by callers are not taken (--allow-experiment-decisions): edit experiment.json"
            )
        self._experiments.decide(
            request.model, kind, request.candidate or None, request.reason, request.by or context.peer()
        )
        return pb.DecideResponse(report=self._report(request.model))

    def _report(self, model: str) -> pb.Report:
        experiment = self._experiments.get(model)
        return report_message(experiment, problem=self._experiments.problem_of(model), now_s=time.time())
