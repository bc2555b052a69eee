"""Request parameters: Triton's types and texts for the known keys, and the reserved prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.services.callers import KEY_PARAMETER
from naiad.services.explain import EXPLAIN, is_explained

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonclient.grpc.service_pb2 import InferParameter

    from naiad.core.tensors import Parameter

EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"

MAX_PARAMETERS = 1_000
"""Parameters of a request; reading each takes some of the event loop's time."""

_UINT64 = 2**64 - 1
_EXPECTED_KINDS = {
    "sequence_id": (("int64_param", "string_param"), "int64_param or string_param."),
    "sequence_start": (("bool_param",), "bool_param."),
    "sequence_end": (("bool_param",), "bool_param."),
    "priority": (("int64_param", "uint64_param"), "int64_param or uint64_param."),
    "timeout": (("int64_param",), "int64_param."),
    EMPTY_FINAL_RESPONSE: (("bool_param",), "bool_param."),
}
_CUSTOM_KINDS = ("int64_param", "bool_param", "string_param", "double_param")


@dataclass(frozen=True, slots=True)
class RequestParameters:
    """What a request's parameters say; the defaults are those of a request without any.

    `priority` 0 leaves it to the model, 1 is the highest. `timeout_us` is for the model's queue policy; 0
    says nothing. `sequence_id` 0 or "" belongs to no sequence. `explain` asks that the answer says how it
    came about. `custom` are the caller's own keys.
    """

    priority: int = 0
    timeout_us: int = 0
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False
    explain: bool = False
    custom: Mapping[str, Parameter] | None = None


_NONE = RequestParameters()


def read_parameters(
    parameters: Mapping[str, InferParameter], forwarded: Mapping[str, str] | None = None
) -> RequestParameters:
    """Check every request parameter's type and read them all.

    Args:
        parameters: the message's.
        forwarded: headers that are to be custom parameters; the message's own win.

    Raises:
        InvalidArgumentError: a known key has the wrong type or value, or a `triton_` key is not allowed, or
            there are more than `MAX_PARAMETERS`.
    """
    if not parameters and not forwarded:
        return _NONE
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidArgumentError(
            f"{len(parameters)} parameters in a request, at most {MAX_PARAMETERS} are taken"
        )
    known: dict[str, Parameter] = {}
    custom: dict[str, Parameter] = dict(forwarded or {})
    for key, parameter in parameters.items():
        value = _value(key, parameter)
        (known if key in _EXPECTED_KINDS else custom)[key] = value
    custom.pop(KEY_PARAMETER, None)  # for whoever chooses the version, and no model
    sequence_id = known.get("sequence_id", 0)
    return RequestParameters(
        priority=int(known.get("priority", 0)),
        # Triton reads it as unsigned: a negative one is so long that no policy takes it.
        timeout_us=max(0, int(known.get("timeout", 0))),
        sequence_id=sequence_id if isinstance(sequence_id, str) else int(sequence_id) & _UINT64,
        sequence_start=bool(known.get("sequence_start", False)),
        sequence_end=bool(known.get("sequence_end", False)),
        explain=is_explained(custom.pop(EXPLAIN, None)),
        custom=custom or None,
    )


def _value(key: str, parameter: InferParameter) -> Parameter:
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
            f"invalid value type for '{key}' parameter, expected int64_param, bool_param, or string_param."
        )
    value: Parameter = getattr(parameter, kind)
    return value
