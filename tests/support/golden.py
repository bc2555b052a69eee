"""Recorded answers of a real Triton: its repository made ready for this server, and its calls made again.

The recording is not part of this tree. `NAIAD_TRITON_CONTRACT` names its folder.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
import onnxruntime as ort
from google.protobuf import json_format
from onnx import TensorProto, helper
from support.onnx_models import info, model
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    Call = grpc.Future[Any]

UNIT_S = 0.02
"""How long a model `slow_*` works at least for each one in the first element of its input: 1 as recorded."""

OCCUPIED_S = 1.2
"""How long the first request of a case works: the others must find its instance busy, however late they come."""

DEADLINE_S = 0.4
"""What a deadline of 100 ms is here: enough to reach a busy machine's server, and far less than `OCCUPIED_S`."""

PATIENCE_S = 30.0
"""How long something that must happen soon may take on a busy machine."""

REGIONS = {"golden_a": 256, "golden_b": 256, "golden_e": 64, "golden_f": 256, "golden_n": 64}
"""Shared memory that the recorder made first, and its size in bytes."""


@dataclass
class Answer:
    """What a call answered: the status, and the response as protobuf JSON."""

    code: str
    message: str
    response: Any = None
    responses: list[Any] = field(default_factory=list)
    in_send_order: list[tuple[str, str]] = field(default_factory=list)
    finished_order: list[int] = field(default_factory=list)


class SharedMemoryObjects:
    """The recorder's shared memory: two INT32 tensors of 16 elements, 0..15 and ones, and zeros after them."""

    def __enter__(self) -> Self:
        tensors = np.concatenate([np.arange(16, dtype="<i4"), np.ones(16, dtype="<i4")]).tobytes()
        for name, size in REGIONS.items():
            self.path(name).write_bytes(tensors.ljust(size, b"\0")[:size])
        return self

    def __exit__(self, *_: object) -> None:
        for name in REGIONS:
            self.path(name).unlink(missing_ok=True)

    @staticmethod
    def path(name: str) -> Path:
        """Where the object lies."""
        return Path("/dev/shm") / name


def make_repository(recorded: Path, target: Path) -> None:
    """Copy the recorded repository; models that slept in Python become graphs that work as long as asked."""
    shutil.copytree(recorded, target, ignore=shutil.ignore_patterns(".gitkeep", "model.py"))
    slow: onnx.ModelProto | None = None
    for folder in sorted(target.glob("slow_*")):
        slow = slow or slow_identity(UNIT_S)
        config = folder / "config.pbtxt"
        config.write_text(config.read_text().replace('"python"', '"onnxruntime"'))
        (folder / "1" / "model.onnx").write_bytes(slow.SerializeToString())


def slow_identity(unit_s: float) -> onnx.ModelProto:
    """OUTPUT0 = INPUT0 (FP32 `[N, 4]`) after `unit_s` of one thread's time for each one in its first element.

    The time is a CPU's: on a busy machine the model is as much slower as whoever waits for it.
    """
    trial = 2_000
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        _looping(trial).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {"INPUT0": np.ones((1, 4), np.float32)}
    session.run(None, inputs)
    return _looping(round(trial * unit_s / min(_cpu_time_s(session, inputs) for _ in range(3))))


def _cpu_time_s(session: ort.InferenceSession, inputs: dict[str, np.ndarray]) -> float:
    """What a run takes of this thread, which does all the work."""
    started = time.thread_time()
    session.run(None, inputs)
    return time.thread_time() - started


def _looping(rounds: int) -> onnx.ModelProto:
    """INPUT0 plus zero: a sum of products of a matrix of zeros, `rounds` for each one in the first element."""
    size = 48
    zeros = np.zeros((size, size), np.float32)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "zeros"], ["product"]),
            helper.make_node("Add", ["before", "product"], ["after"]),
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
        ],
        "body",
        [
            info("round", TensorProto.INT64, []),
            info("go_on", TensorProto.BOOL, []),
            info("before", TensorProto.FLOAT, [size, size]),
        ],
        [info("go_on_out", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, [size, size])],
    )
    return model(
        [
            helper.make_node("Flatten", ["INPUT0"], ["flat"], axis=0),
            helper.make_node("Gather", ["flat", "first"], ["wanted"], axis=1),
            helper.make_node("Squeeze", ["wanted"], ["units"]),
            helper.make_node("Cast", ["units"], ["turns"], to=TensorProto.INT64),
            helper.make_node("Mul", ["turns", "unit"], ["rounds"]),
            helper.make_node("Loop", ["rounds", "", "zeros"], ["worked"], body=body),
            helper.make_node("ReduceSum", ["worked"], ["sum"], keepdims=0),
            helper.make_node("Add", ["INPUT0", "sum"], ["OUTPUT0"]),
        ],
        [info("INPUT0", TensorProto.FLOAT, ["N", 4])],
        [info("OUTPUT0", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor("first", TensorProto.INT64, [1], [0]),
            helper.make_tensor("unit", TensorProto.INT64, [], [rounds]),
            helper.make_tensor("zeros", TensorProto.FLOAT, zeros.shape, zeros.tobytes(), raw=True),
        ],
    )


class Replay:
    """Makes recorded calls again. `at_work` tells how many requests of a model run or wait in the server."""

    def __init__(self, channel: grpc.Channel, at_work: Callable[[str], float]) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._at_work = at_work

    def case(self, case: dict[str, Any]) -> Answer:
        """One recorded case, however many requests it takes."""
        if case["rpc"] == "ModelStreamInfer":
            return self._stream(case["request"])
        if "results_in_send_order" in case:
            return self._several(case)
        return self.call(case["rpc"], case["request"])

    def call(self, rpc: str, request: dict[str, Any]) -> Answer:
        """One unary call."""
        return _answer(self._send(rpc, request, PATIENCE_S))

    def _send(self, rpc: str, request: dict[str, Any], deadline_s: float) -> Call:
        message = json_format.ParseDict(request, _request_type(rpc)())
        call: Call = getattr(self._stub, rpc).future(message, timeout=deadline_s)
        return call

    def _stream(self, requests: list[dict[str, Any]]) -> Answer:
        messages = [json_format.ParseDict(request, pb.ModelInferRequest()) for request in requests]
        try:
            responses = [_as_dict(each) for each in self._stub.ModelStreamInfer(iter(messages), timeout=30)]
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "")
        return Answer("OK", "", responses=responses)

    def _several(self, case: dict[str, Any]) -> Answer:
        """Requests that come one after the other, each while the first is at work; the last is the recorded one."""
        wanted = case["results_in_send_order"]
        calls: list[Call] = []
        finished: list[int] = []
        model_name = case["request"]["model_name"]
        self._wait(lambda: not self._at_work(model_name))  # what the case before it left may still be at work
        for index, result in enumerate(wanted):
            request = json.loads(json.dumps(case["request"]))
            has_deadline = result["code"] == "DEADLINE_EXCEEDED"
            if index == 0 and (len(wanted) > 1 or has_deadline):
                _work_longer(request)
            if "overtakes" in case["name"]:
                priority = "1" if index == len(wanted) - 1 else "2"
                request["parameters"]["priority"]["int64_param"] = priority
            call = self._send(case["rpc"], request, DEADLINE_S if has_deadline else PATIENCE_S)
            call.add_done_callback(partial(_note, finished, index))
            calls.append(call)
            # First the calls: none of those that the server has afterwards can be another's.
            self._wait(lambda: sum(not call.done() for call in calls) <= self._at_work(model_name))
        answers = [_answer(call) for call in calls]
        results = [(answer.code, answer.message) for answer in answers]
        told = next((index for index, each in enumerate(wanted) if each["code"] == case["code"] != "OK"), -1)
        return Answer(*results[told], in_send_order=results, finished_order=finished)

    @staticmethod
    def _wait(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until, "what was sent does not come to work"


def _note(finished: list[int], index: int, _: Call) -> None:
    finished.append(index)


def _work_longer(request: dict[str, Any]) -> None:
    """Let a request to a model `slow_*` take `OCCUPIED_S`."""
    array = np.frombuffer(base64.b64decode(request["raw_input_contents"][0]), np.float32).copy()
    array[0] = round(OCCUPIED_S / UNIT_S)
    request["raw_input_contents"] = [base64.b64encode(array.tobytes()).decode()]


def _answer(call: Call) -> Answer:
    try:
        return Answer("OK", "", _as_dict(call.result()))
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details() or "")


def _request_type(rpc: str) -> type[Any]:
    method = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name[rpc]
    kind: type[Any] = getattr(pb, method.input_type.name)
    return kind


def _as_dict(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


_VARIES = ("ns", "last_inference")


def comparable(value: Any) -> Any:
    """A response without what differs from run to run: times, and the order of a map's entries."""
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in sorted(value.items()) if key not in _VARIES}
    if isinstance(value, list):
        return [comparable(each) for each in value]
    return value


def comparable_message(message: str, repository: Path) -> str:
    """A message with the folder's path as the recorder wrote it, and lists of inputs in one order."""
    message = message.replace(str(repository), "<repository>")

    def sort(match: re.Match[str]) -> str:
        return "Got input(s) [" + ",".join(sorted(match.group(1).split(","))) + "]"

    return re.sub(r"Got input\(s\) \[([^\]]*)\]", sort, message)
