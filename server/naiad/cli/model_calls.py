"""Calls of Triton's model repository extension, as `naiad models` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.cli.server_calls import ANSWER_S, metadata_of, open_channel, reasons
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the repository index; `version` is None for a model of which nothing was ever loaded."""

    name: str
    version: int | None
    state: str
    reason: str


class ModelCalls:
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
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def index(self, names: Sequence[str] = ()) -> list[Line]:
        """The repository index, sorted; of the models of those names if there are any.

        Raises:
            InvalidArgumentError: a name is not in it.
            UnavailableError: no server answers.
        """
        with reasons(self._address):
            answer = self._stub.RepositoryIndex(
                pb.RepositoryIndexRequest(), timeout=ANSWER_S, metadata=self._metadata
            )
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
            request = pb.ModelConfigRequest(name=name)
            return self._stub.ModelConfig(request, timeout=ANSWER_S, metadata=self._metadata).config
        except grpc.RpcError:
            return None

    def load(self, name: str) -> None:
        """Load a model, or load it anew; raises as `unload`, with the reason why it does not load."""
        with reasons(self._address):
            self._stub.RepositoryModelLoad(
                pb.RepositoryModelLoadRequest(model_name=name), metadata=self._metadata
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
        with reasons(self._address):
            self._stub.RepositoryModelUnload(request, timeout=ANSWER_S, metadata=self._metadata)
