"""Sessions over a small server of Triton's protocol, in a thread of gRPC's."""

# ruff: noqa: N802 - the names are the protocol's

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.core.errors import (
    CancelledError,
    EngineTimeoutError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from naiad.runtime.remote.fleet import Fleet
from naiad.runtime.remote.model import describe, ready_models
from naiad.runtime.remote.session import RemoteSession
from naiad.runtime.remote.shared import Region, try_sharing

if TYPE_CHECKING:
    from collections.abc import Iterator


class Doubler(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # tritonclient ships no types
    """`double` doubles FP32 [-1, 3] as batches of up to 4; its requests have dims [1, 3], which it reshapes."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.fails_with: tuple[grpc.StatusCode, str] | None = None
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()
        self.release.set()

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        answer = pb.ModelMetadataResponse(name="double", versions=["10", "9"])
        for tensors, name in ((answer.inputs, "x"), (answer.outputs, "y")):
            tensors.add(name=name, datatype="FP32", shape=[-1, 1, 3])
        return answer

    def ModelConfig(self, request: Any, context: Any) -> Any:
        answer = pb.ModelConfigResponse()
        answer.config.name, answer.config.max_batch_size = "double", 4
        for tensors, name in ((answer.config.input, "x"), (answer.config.output, "y")):
            entry = tensors.add(name=name, dims=[1, 3])
            entry.reshape.shape.append(3)
        return answer

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        answer = pb.RepositoryIndexResponse()
        for version in ("10", "9"):
            answer.models.add(name="double", version=version, state="READY")
        return answer

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.shapes.append(tuple(request.inputs[0].shape))
        self.entered.release()
        self.release.wait(30)
        if self.fails_with is not None:
            context.abort(*self.fails_with)
        values = np.frombuffer(request.raw_input_contents[0], np.float32) * 2
        answer = pb.ModelInferResponse(model_name="double", raw_output_contents=[values.tobytes()])
        answer.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
        return answer


def serve(service: Doubler) -> tuple[grpc.Server, str]:
    running = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    return running, f"127.0.0.1:{port}"


@pytest.fixture
def service() -> Doubler:
    return Doubler()


@pytest.fixture
def fleet(service: Doubler) -> Iterator[Fleet]:
    running, address = serve(service)
    opened = Fleet([address], timeout_s=20)
    yield opened
    service.release.set()
    opened.close()
    running.stop(None).wait()


def test_a_model_is_described_with_the_shapes_of_its_graph(fleet: Fleet) -> None:
    model = describe(fleet, "double", "")
    assert [(spec.name, spec.shape) for spec in (*model.inputs, *model.outputs)] == [
        ("x", (-1, 3)),
        ("y", (-1, 3)),
    ]
    assert model.versions == (9, 10)  # numbers, not text
    assert model.max_batch_size == 4
    assert ready_models(fleet) == {"double": (9, 10)}


def test_a_run_is_a_call_in_the_shape_of_requests(fleet: Fleet, service: Doubler) -> None:
    session = RemoteSession(fleet, describe(fleet, "double", "10"))
    batch = np.arange(6, dtype=np.float32).reshape(2, 3)
    [answer] = session.run({"x": batch}, ["y"]).values()
    np.testing.assert_array_equal(answer.reshape(2, 3), batch * 2)
    assert service.shapes == [(2, 1, 3)]


def test_a_server_without_shared_memory_still_gets_large_tensors(fleet: Fleet, service: Doubler) -> None:
    """It does not know the method: gRPC carries them, and the host knows why from then on."""
    session = RemoteSession(fleet, describe(fleet, "double", "10"))
    batch = np.ones((10_000, 3), np.float32)
    [answer] = session.for_instance().run({"x": batch}, ["y"]).values()
    assert answer.sum() == 60_000
    assert "Method not implemented" in fleet.hosts[0].shared_refusal
    session.close()


def test_a_server_that_is_away_has_refused_no_shared_memory() -> None:
    """Found out at load or by a run: once it is back it is asked."""
    fleet = Fleet(["127.0.0.1:1"])
    [host] = fleet.hosts
    try_sharing(host)
    assert host.shared_refusal == ""
    with pytest.raises(UnavailableError):
        Region(host, 1)
    fleet.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgumentError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhaustedError),
        (grpc.StatusCode.INTERNAL, InternalError),
        (grpc.StatusCode.UNKNOWN, InternalError),
    ],
)
def test_errors_keep_their_words_and_kind(
    fleet: Fleet, service: Doubler, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    session = RemoteSession(fleet, describe(fleet, "double", "10"))
    service.fails_with = code, "its own words"
    with pytest.raises(kind, match=r"^its own words \(Triton at 127\.0\.0\.1:\d+\)$"):
        session.run({"x": np.ones((1, 3), np.float32)}, ["y"])


def test_a_run_that_is_not_answered_in_time_is_asked_of_nobody_else(service: Doubler) -> None:
    """Nor does it take the time of two; the silent server is set aside, and the next run goes to the other."""
    silent = Doubler()
    silent.release.clear()
    (first, one), (second, other) = serve(silent), serve(service)
    fleet = Fleet([one, other], timeout_s=0.5)
    try:
        session = RemoteSession(fleet, describe(fleet, "double", "10"))
        fleet.attempt(lambda host: host)  # the first one's turn again
        began_s = time.monotonic()
        with pytest.raises(EngineTimeoutError, match=rf"^no answer from Triton at {one} in 0\.5 s$"):
            session.run({"x": np.ones((1, 3), np.float32)}, ["y"])
        assert time.monotonic() - began_s < 0.95
        assert service.shapes == []
        session.run({"x": np.ones((1, 3), np.float32)}, ["y"])
        assert (len(silent.shapes), len(service.shapes)) == (1, 1)
    finally:
        silent.release.set()
        fleet.close()
        first.stop(None).wait()
        second.stop(None).wait()


def test_what_a_model_is_can_be_told_by_another_server_than_a_silent_one(service: Doubler) -> None:
    """No caller waits while a model is loaded: a server that does not answer then is one that is not there."""

    class Silent(Doubler):
        def ModelMetadata(self, request: Any, context: Any) -> Any:
            self.release.wait(30)
            return super().ModelMetadata(request, context)

    silent = Silent()
    silent.release.clear()
    (first, one), (second, other) = serve(silent), serve(service)
    fleet = Fleet([one, other], timeout_s=0.5)
    try:
        assert describe(fleet, "double", "").versions == (9, 10)
    finally:
        silent.release.set()
        fleet.close()
        first.stop(None).wait()
        second.stop(None).wait()


def test_a_run_that_nobody_waits_for_is_cancelled_there(fleet: Fleet, service: Doubler) -> None:
    """`terminate` comes from another thread; `rearm` lets later runs go to their end."""
    run = RemoteSession(fleet, describe(fleet, "double", "10")).for_instance()
    service.release.clear()
    with ThreadPoolExecutor(1) as thread:
        outcome = thread.submit(run.run, {"x": np.ones((1, 3), np.float32)}, ["y"])
        assert service.entered.acquire(timeout=20)
        run.terminate()
        with pytest.raises(CancelledError):
            outcome.result(20)
    with pytest.raises(CancelledError):
        run.run({"x": np.ones((1, 3), np.float32)}, ["y"])
    service.release.set()
    run.rearm()
    assert run.run({"x": np.ones((1, 3), np.float32)}, ["y"])["y"].sum() == 6


def test_another_server_is_asked_where_one_has_no_room(service: Doubler) -> None:
    """Half of the calls would fail: each is answered by the other server."""
    full = Doubler()
    full.fails_with = grpc.StatusCode.UNAVAILABLE, "the queue is full"
    (first, one), (second, other) = serve(full), serve(service)
    fleet = Fleet([one, other], timeout_s=20)
    try:
        session = RemoteSession(fleet, describe(fleet, "double", "10"))
        for _ in range(6):
            session.run({"x": np.ones((1, 3), np.float32)}, ["y"])
        assert len(service.shapes) == 6
        assert 1 <= len(full.shapes) < 3  # set aside
        service.fails_with = grpc.StatusCode.INVALID_ARGUMENT, "the caller's fault"
        asked = len(full.shapes)
        with pytest.raises(InvalidArgumentError):
            session.run({"x": np.ones((1, 3), np.float32)}, ["y"])
        assert len(full.shapes) == asked  # nobody else would say otherwise
    finally:
        fleet.close()
        first.stop(None).wait()
        second.stop(None).wait()
