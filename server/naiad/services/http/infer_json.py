"""An inference's JSON to Triton's message, and each input's bytes beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.services.http.errors import JsonTypeError
from naiad.services.http.json_text import MAX_NESTING, member, typed, unsigned, wrong_type
from naiad.services.http.number_text import parse_long_object
from naiad.services.http.tensor_data import INT64_MAX, element_count, json_tensor
from naiad.services.shared_memory.parameters import BYTE_SIZE, OFFSET, REGION

if TYPE_CHECKING:
    from naiad.services.contents import Content
    from naiad.services.http.number_text import NumberText

CLASSES = "classification"
ENVELOPE = 3
"""How deep a tensor's data lies in the text: the request, its inputs, the input."""


@dataclass(slots=True)
class ParsedInfer:
    """A request as the protocol takes it, and which outputs it wants as binary tensors.

    `data[i]` is what input i holds; None when it lies in shared memory. An output that `binary` does not
    name comes as `binary_default` says.
    """

    message: pb.ModelInferRequest
    data: list[Content | None] = field(default_factory=list)
    binary: dict[str, bool] = field(default_factory=dict)
    binary_default: bool = False

    def is_binary(self, output: str) -> bool:
        """Whether an output is wanted as a binary tensor."""
        return self.binary.get(output, self.binary_default)


def parse_infer(name: str, version: str, text: bytes, tail: memoryview, *, max_input: int) -> ParsedInfer:
    """Read a request; `tail` holds its binary tensors, in the order of the inputs that declare one.

    Raises:
        InvalidArgumentError: it is not what the protocol says.
    """
    request, arrays = parse_long_object(text, max_nesting=MAX_NESTING + ENVELOPE)
    parsed = ParsedInfer(pb.ModelInferRequest(model_name=name, model_version=version))
    if "id" in request:
        parsed.message.id = _string("id", request["id"])
    if "parameters" in request:
        _read_parameters(parsed, typed("parameters", request["parameters"], dict))
    inputs = _Inputs(parsed, arrays, tail, max_input)
    for tensor in member(request, "inputs", list):
        inputs.read(tensor)
    inputs.check_all_read()
    if "outputs" in request:
        for output in typed("outputs", request["outputs"], list):
            _read_output(parsed, output)
    return parsed


def _string(key: str, value: Any) -> str:
    text: str = typed(key, value, str)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"Unable to parse '{key}': {error}") from None
    return text


def _read_parameters(parsed: ParsedInfer, parameters: dict[str, Any]) -> None:
    for key, value in parameters.items():
        if key == "binary_data_output":
            parsed.binary_default = typed(key, value, bool)
        elif key.startswith("triton_"):
            raise InvalidArgumentError(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
                "specified."
            )
        else:
            _set_parameter(parsed.message.parameters[_string(key, key)], key, value)


def _set_parameter(parameter: pb.InferParameter, key: str, value: Any) -> None:
    """Take over a value by its type; what the known keys may hold is checked behind the door too."""
    if key in ("sequence_start", "sequence_end"):
        typed(key, value, bool)
    elif key == "priority":
        unsigned(key, value)
    elif key == "timeout":
        value = min(unsigned(key, value), INT64_MAX)
    elif key == "sequence_id" and type(value) is not str:
        value = _as_signed(unsigned(key, value))
    if type(value) is bool:
        parameter.bool_param = value
    elif type(value) is str:
        parameter.string_param = _string(key, value)
    elif type(value) is int and -INT64_MAX - 1 <= value <= INT64_MAX:
        parameter.int64_param = value
    elif type(value) is int and 0 <= value < 2**64:
        parameter.uint64_param = value
    elif type(value) is float:
        parameter.double_param = value
    else:
        raise InvalidArgumentError(
            f"parameter '{key}' has invalid type. It should be either 'int', 'bool', or 'string'."
        )


def _as_signed(value: int) -> int:
    """An unsigned 64-bit integer in the signed field that the message has for it, bit by bit."""
    return value - 2**64 if value > INT64_MAX else value


class _Inputs:
    """Reads the inputs in order, and with them the binary tensors behind the JSON."""

    def __init__(
        self, parsed: ParsedInfer, arrays: dict[str, NumberText], tail: memoryview, max_input: int
    ) -> None:
        self._parsed = parsed
        self._arrays = arrays
        self._tail = tail
        self._max_input = max_input

    def read(self, tensor: Any) -> None:
        parameters = _tensor_parameters(tensor)
        _check_one_source(tensor, parameters)
        name = _string("name", member(tensor, "name", str))
        datatype = _string("datatype", member(tensor, "datatype", str))
        shape = _shape(member(tensor, "shape", list), name)
        target = self._parsed.message.inputs.add(name=name, datatype=datatype, shape=shape)
        if "binary_data_size" in parameters:
            data: Content | None = self._binary(
                name, unsigned("binary_data_size", parameters["binary_data_size"])
            )
        elif REGION in parameters:
            _copy_memory_parameters(target.parameters, parameters)
            data = None
        else:
            count = element_count(shape, name)
            pieces = self._pieces(tensor["data"])
            data = json_tensor(pieces, datatype, count, name=name, max_bytes=self._max_input)
        self._parsed.data.append(data)

    def _binary(self, name: str, size: int) -> memoryview:
        data, self._tail = self._tail[:size], self._tail[size:]
        if len(data) < size:
            raise InvalidArgumentError(
                f"unexpected size for input '{name}', expecting {size - len(data)} additional bytes for "
                f"model '{self._parsed.message.model_name}'"
            )
        return data

    def _pieces(self, data: Any) -> NumberText | tuple[list[Any]]:
        if type(data) is str and data in self._arrays:
            return self._arrays.pop(data)
        return (typed("data", data, list),)

    def check_all_read(self) -> None:
        """Refuse bytes that belong to no input, and data that is no input's.

        Raises:
            InvalidArgumentError: there is some.
        """
        if self._tail.nbytes:
            raise InvalidArgumentError(
                f"unexpected additional input data for model '{self._parsed.message.model_name}'"
            )
        if self._arrays:
            raise InvalidArgumentError("Unable to parse 'data': it is no member of an input")


def _tensor_parameters(tensor: Any) -> dict[str, Any]:
    if type(tensor) is not dict:
        raise wrong_type("inputs", "object")
    parameters: dict[str, Any] = typed("parameters", tensor.get("parameters", {}), dict)
    return parameters


def _check_one_source(tensor: dict[str, Any], parameters: dict[str, Any]) -> None:
    sources = [
        key
        for key, holder in (
            ("data", tensor),
            ("binary_data_size", parameters),
            (REGION, parameters),
        )
        if key in holder
    ]
    if len(sources) != 1:
        found = " set " + " ".join(f"'{key}'" for key in sources) if sources else " no field is set"
        raise InvalidArgumentError(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. But{found}"
        )


def _shape(dims: list[Any], name: str) -> list[int]:
    for dim in dims:
        if type(dim) is not int or not 0 <= dim < 2**64:
            raise JsonTypeError(
                "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer"
            )
        if dim > INT64_MAX:
            raise InvalidArgumentError(
                f"invalid shape for input '{name}': dimension {dim} exceeds maximum size of {INT64_MAX}"
            )
    return dims


def _copy_memory_parameters(target: Any, parameters: dict[str, Any]) -> None:
    if REGION in parameters:
        target[REGION].string_param = _string(REGION, parameters[REGION])
    for key in (OFFSET, BYTE_SIZE):
        if key in parameters:
            target[key].int64_param = _as_signed(unsigned(key, parameters[key]))


def _read_output(parsed: ParsedInfer, output: Any) -> None:
    parameters = _tensor_parameters(output)
    binary = typed("binary_data", parameters["binary_data"], bool) if "binary_data" in parameters else None
    if REGION in parameters:
        for key, set_both in ((CLASSES, CLASSES in parameters), ("binary_data", binary)):
            if set_both:
                raise InvalidArgumentError(f"Output can't set both 'shared_memory_region' and '{key}'")
    name = _string("name", member(output, "name", str))
    target = parsed.message.outputs.add(name=name)
    _copy_memory_parameters(target.parameters, parameters)
    # No classes are as good as none asked for.
    if classes := unsigned(CLASSES, parameters.get(CLASSES, 0)):
        target.parameters[CLASSES].int64_param = min(classes, INT64_MAX)
    if binary is not None:
        parsed.binary[name] = binary
