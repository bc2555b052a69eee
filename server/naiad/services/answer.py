"""What an inference answers, before a front end writes it to its wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from naiad.core.datatypes import DataType
from naiad.core.errors import CallerFaultError, InvalidArgumentError
from naiad.services.classification import classify, parse_classification
from naiad.services.contents import raw_view
from naiad.services.shared_memory.parameters import parse_shm_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tritonclient.grpc import service_pb2 as pb

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, InferResponse, Parameter
    from naiad.services.shared_memory.regions import Lease, Regions
    from naiad.services.shared_memory.table import Range

HEAVY_TEXTS = 4_096
"""Texts of an output above which an answer is made off the event loop."""


@dataclass(slots=True)
class AnswerTensor:
    """One output of an answer.

    `array` has the full `shape`; BYTES come as an object array of `bytes`. It is None when the tensor has
    been written to the shared memory that the request named. An output asked for as classes is a BYTES
    tensor already.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    array: Array | None


@dataclass(slots=True)
class InferAnswer:
    """An answered request: who answered, its outputs sorted by name, and parameters if there are any."""

    model_name: str
    model_version: str
    id: str
    response: InferResponse
    tensors: list[AnswerTensor] = field(default_factory=list)
    parameters: Mapping[str, Parameter] | None = None


@dataclass(slots=True)
class Placement:
    """Where and how one output is wanted: as its `classes` best, or in the memory of `lease`."""

    classes: int = 0
    lease: Lease | None = None


class Placements:
    """What a request's outputs ask for beyond their names. The regions stay leased until `release`."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: dict[str, Placement] = {}

    @classmethod
    def of(cls, message: pb.ModelInferRequest, regions: Regions) -> Placements:
        """Read the outputs' parameters and lease the regions that they name.

        Raises:
            InvalidArgumentError: a parameter has the wrong type, or the range lies outside its region.
            NotFoundError: no such region.
        """
        placements = cls()
        try:
            for output in message.outputs:
                if output.parameters:
                    placements._add(output, regions)
        except BaseException:
            placements.release()
            raise
        return placements

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __getitem__(self, name: str) -> Placement | None:
        return self._by_name.get(name)

    def release(self) -> None:
        """Give every lease back. Safe to call twice."""
        for placement in self._by_name.values():
            if placement.lease is not None:
                placement.lease.release()

    def _add(self, output: pb.ModelInferRequest.InferRequestedOutputTensor, regions: Regions) -> None:
        shared = parse_shm_parameters(output.parameters, output.name)
        classes = 0
        if "classification" in output.parameters:
            classes = parse_classification(output.parameters["classification"], output.name)
        if shared is not None and classes:
            raise InvalidArgumentError("output can't set both 'shared_memory_region' and 'classification'")
        if shared is not None or classes:
            lease = None if shared is None else regions.lease(shared.region, shared.offset, shared.byte_size)
            self._by_name[output.name] = Placement(classes, lease)


def is_heavy_response(response: InferResponse, placements: Placements | None = None) -> bool:
    """Whether `make_answer` and writing the answer belong off the event loop."""
    return any(
        (array.dtype.hasobject or placements) and array.size > HEAVY_TEXTS
        for array in response.outputs.values()
    )


def make_answer(
    response: InferResponse,
    message: pb.ModelInferRequest,
    config: ModelConfig,
    placements: Placements,
    labels: Mapping[str, Sequence[str]],
    *,
    added: Mapping[str, DataType] = MappingProxyType({}),
) -> InferAnswer:
    """The answer to `message`, its outputs classified or written to shared memory as they were asked for.

    Args:
        response: what the model gave.
        message: the request.
        config: the config of the version that answered.
        placements: of the request's outputs.
        labels: the classes' names by output.
        added: outputs that the answer may hold beside the config's.

    Raises:
        InvalidArgumentError: an output cannot be classified.
        CallerFaultError: an output does not fit the memory that it was to be written to.
    """
    answer = InferAnswer(message.model_name, str(response.model.version), message.id, response)
    datatypes = {**added, **{output.name: output.datatype for output in config.outputs}}
    for name, array in response.outputs.items():
        placement = placements[name] if placements else None
        tensor = AnswerTensor(name, datatypes[name], array.shape, array)
        if placement is not None and placement.classes:
            tensor.array = classify(
                array,
                placement.classes,
                batched=config.max_batch_size > 0,
                labels=labels.get(name, ()),
                datatype=tensor.datatype,
            )
            tensor.datatype = DataType.BYTES
            tensor.shape = tensor.array.shape
        elif placement is not None and placement.lease is not None:
            write_shared(placement.lease, name, array, tensor.datatype)
            tensor.array = None
        answer.tensors.append(tensor)
    return answer


def write_shared(lease: Lease | Range, name: str, array: Array, datatype: DataType) -> None:
    """Write an output to the memory that the request named.

    Raises:
        CallerFaultError: it does not fit.
        InvalidArgumentError: the client has made its object smaller than it registered.
        InternalError: the memory cannot be written.
    """
    data = raw_view(array, datatype)
    if len(data) > lease.byte_size:
        raise CallerFaultError(
            f"shared memory size specified with the request for output '{name}' ({lease.byte_size} "
            f"bytes) should be at least {len(data)} bytes to hold the results"
        )
    lease.write(data)
