"""Recorded answers of a real Triton: its repository made ready for this server, and its calls made again.

The recording is not part of this tree. `NAIAD_TRITON_CONTRACT` names its folder.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
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
    import onnx

SLOW_S = 0.4
"""How long the recorded models `slow_*` take for a batch."""

SPACING_S = 0.03
"""Time between the requests of a case that sends several."""

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
    """Copy the recorded repository; models that slept in Python become graphs that take as long."""
    shutil.copytree(recorded, target, ignore=shutil.ignore_patterns(".gitkeep", "model.py"))
    slow: onnx.ModelProto | None = None
    for folder in sorted(target.glob("slow_*")):
        slow = slow or slow_identity(SLOW_S)
        config = folder / "config.pbtxt"
        config.write_text(config.read_text().replace('"python"', '"onnxruntime"'))
        (folder / "1" / "model.onnx").write_bytes(slow.SerializeToString())


def slow_identity(seconds: float) -> onnx.ModelProto:
    """OUTPUT0 = INPUT0 (FP32 `[N, 4]`) after about `seconds` of work on one thread of this machine."""
    trial = 2_000
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        _looping(trial).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {"INPUT0": np.zeros((1, 4), np.float32)}
    session.run(None, inputs)
    started = time.perf_counter()
    session.run(None, inputs)
    return _looping(round(trial * seconds / (time.perf_counter() - started)))


def _looping(rounds: int) -> onnx.ModelProto:
    """INPUT0 plus zero, where zero is a sum of `rounds` products of a matrix of zeros."""
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
            helper.make_node("Loop", ["rounds", "", "zeros"], ["worked"], body=body),
            helper.make_node("ReduceSum", ["worked"], ["sum"], keepdims=0),
            helper.make_node("Add", ["INPUT0", "sum"], ["OUTPUT0"]),
        ],
        [info("INPUT0", TensorProto.FLOAT, ["N", 4])],
        [info("OUTPUT0", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor("rounds", TensorProto.INT64, [], [rounds]),
            helper.make_tensor("zeros", TensorProto.FLOAT, zeros.shape, zeros.tobytes(), raw=True),
        ],
    )


class Replay:
    """Makes recorded calls again."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def case(self, case: dict[str, Any]) -> Answer:
        """One recorded case, however many requests it takes."""
        if case["rpc"] == "ModelStreamInfer":
            return self._stream(case["request"])
        if "results_in_send_order" in case:
            return self._several(case)
        return self.call(case["rpc"], case["request"])

    def call(self, rpc: str, request: dict[str, Any], deadline_s: float = 30) -> Answer:
        """One unary call."""
        message = json_format.ParseDict(request, _request_type(rpc)())
        try:
            response = getattr(self._stub, rpc)(message, timeout=deadline_s)
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "")
        return Answer("OK", "", _as_dict(response))

    def _stream(self, requests: list[dict[str, Any]]) -> Answer:
        messages = [json_format.ParseDict(request, pb.ModelInferRequest()) for request in requests]
        try:
            responses = [_as_dict(each) for each in self._stub.ModelStreamInfer(iter(messages), timeout=30)]
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "")
        return Answer("OK", "", responses=responses)

    def _several(self, case: dict[str, Any]) -> Answer:
        """Requests one after the other without waiting for answers; the last one is the recorded request."""
        wanted = case["results_in_send_order"]
        answers: list[Answer | None] = [None] * len(wanted)
        finished: list[int] = []

        def send(index: int) -> None:
            request = json.loads(json.dumps(case["request"]))
            if "overtakes" in case["name"]:
                priority = "1" if index == len(wanted) - 1 else "2"
                request["parameters"]["priority"]["int64_param"] = priority
            deadline_s = 0.1 if wanted[index]["code"] == "DEADLINE_EXCEEDED" else 30
            answers[index] = self.call(case["rpc"], request, deadline_s)
            finished.append(index)

        threads = [threading.Thread(target=send, args=(index,)) for index in range(len(wanted))]
        for thread in threads:
            thread.start()
            time.sleep(SPACING_S)
        for thread in threads:
            thread.join()
        results = [(answer.code, answer.message) for answer in answers if answer is not None]
        told = next((index for index, each in enumerate(wanted) if each["code"] == case["code"] != "OK"), -1)
        return Answer(*results[told], in_send_order=results, finished_order=finished)


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
