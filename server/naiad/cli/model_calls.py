"""Calls of Triton's model repository extension, as `naiad models` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.cli.server_calls import ServerCalls
from naiad.core.errors import InvalidArgumentError, NaiadError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the repository index; `version` is None for a model of which nothing was ever loaded."""

    name: str
    version: int | None
    state: str
    reason: str


class ModelCalls(ServerCalls):
    """A connection to a server. A context manager."""

    def __init__(self, address: str, headers: Sequence[str] = ()) -> None:
        """Connect, as soon as something is called; the arguments are those of `ServerCalls`."""
        super().__init__(address, headers)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def index(self, names: Sequence[str] = ()) -> list[Line]:
        """The repository index, sorted; of the models of those names if there are any.

        Raises:
            InvalidArgumentError: a name is not in it.
            UnavailableError: no server answers.
        """
        answer = self.ask(self._stub.RepositoryIndex, pb.RepositoryIndexRequest())
        lines = [
            Line(each.name, int(each.version) if each.version else None, each.state, each.reason)
            for each in answer.models
        ]
        unknown = sorted(set(names) - {line.name for line in lines})
        if unknown:
            raise InvalidArgumentError(f"no model {', '.join(unknown)} is in the server's repositories")
        return sorted(
            (line for line in lines if not names or line.name in names),
            key=lambda line: (line.name, line.version or 0),
        )

    def config(self, name: str) -> Any:
        """The `ModelConfig` message of the version that answers; None if none does."""
        try:
            return self.ask(self._stub.ModelConfig, pb.ModelConfigRequest(name=name)).config
        except NaiadError:
            return None

    def load(self, name: str) -> None:
        """Load a model, or load it anew; raises as `unload`, with the reason why it does not load."""
        # It may take minutes.
        self.ask(
            self._stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name=name), timeout_s=None
        )

    def unload(self, name: str, *, dependents: bool = False) -> None:
        """Unload a model.

        Args:
            name: the model.
            dependents: whether to unload what it is composed of, too.

        Raises:
            InternalError: the server refuses; in its words.
            UnavailableError: no server answers.
        """
        request = pb.RepositoryModelUnloadRequest(model_name=name)
        request.parameters["unload_dependents"].bool_param = dependents
        self.ask(self._stub.RepositoryModelUnload, request)
