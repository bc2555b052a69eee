"""Request parameters: Triton's types and texts for the known keys, and the reserved prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonclient.grpc.service_pb2 import InferParameter, ModelInferRequest

NO_SHARED_MEMORY = "Naiad does not serve client shared memory"
EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"

_EXPECTED_KINDS = {
    "sequence_id": (("int64_param", "string_param"), "int64_param or string_param."),
    "sequence_start": (("bool_param",), "bool_param."),
    "sequence_end": (("bool_param",), "bool_param."),
    "priority": (("int64_param", "uint64_param"), "int64_param or uint64_param."),
    "timeout": (("int64_param",), "int64_param."),
    EMPTY_FINAL_RESPONSE: (("bool_param",), "bool_param."),
}
_CUSTOM_KINDS = ("int64_param", "bool_param", "string_param", "double_param")


def check_parameters(parameters: Mapping[str, InferParameter]) -> None:
    """Check every request parameter's type.

    Raises:
        InvalidArgumentError: a known key has the wrong type or value, or a `triton_` key is not allowed.
    """
    for key, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        expected = _EXPECTED_KINDS.get(key)
        if expected is not None:
            kinds, text = expected
            if kind not in kinds:
                raise InvalidArgumentError(f"invalid value type for '{key}' parameter, expected {text}")
            if key == "priority" and kind == "int64_param" and parameter.int64_param < 0:
                raise InvalidArgumentError("invalid value for 'priority', expected value >= 0.")
        elif key.startswith("triton_"):
            raise InvalidArgumentError(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following "
                f"keys starting with 'triton_' are allowed: {EMPTY_FINAL_RESPONSE}"
            )
        elif kind not in _CUSTOM_KINDS:
            raise InvalidArgumentError(
                f"invalid value type for '{key}' parameter, "
                "expected int64_param, bool_param, or string_param."
            )


def check_tensor_parameters(message: ModelInferRequest) -> None:
    """Refuse what a tensor's parameters ask for and this server does not do, rather than answer without it.

    Raises:
        UnsupportedError: a tensor is to be in shared memory, or an output to come as classes.
    """
    for tensor in (*message.inputs, *message.outputs):
        for key in tensor.parameters:
            if key.startswith("shared_memory_"):
                raise UnsupportedError(
                    f"{NO_SHARED_MEMORY}: send and fetch tensor '{tensor.name}' in the messages"
                )
            if key == "classification":
                raise UnsupportedError(
                    f"classification of output '{tensor.name}' is not served: ask for the tensor itself"
                )
