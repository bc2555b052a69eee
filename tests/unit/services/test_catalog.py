"""What clients are told about the repository."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.registry import IndexEntry
from naiad.lifecycle.states import ReadyState
from naiad.repository.layout import DUPLICATE
from naiad.services.catalog import repository_index


def test_the_index_tells_state_and_reason_as_far_as_they_are_known() -> None:
    entries = [
        IndexEntry("never_loaded"),
        IndexEntry("twice", None, ReadyState.UNAVAILABLE, DUPLICATE),
        IndexEntry("broken", 2, ReadyState.UNAVAILABLE, InvalidArgumentError("x")),
        IndexEntry("good", 1, ReadyState.READY),
    ]
    line = pb.RepositoryIndexResponse.ModelIndex
    assert list(repository_index(entries).models) == [
        line(name="never_loaded"),
        line(name="twice", state="UNAVAILABLE", reason="model appears in two or more repositories"),
        line(name="broken", version="2", state="UNAVAILABLE", reason="Invalid argument: x"),
        line(name="good", version="1", state="READY"),
    ]
