"""What an answer says about itself for a request that asks: when it ran, with whom, where, and why then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from naiad.core.tensors import InferResponse, Parameter
    from naiad.lifecycle.version import ModelHandle

EXPLAIN = "naiad_explain"
"""The request parameter that asks for it. It is the server's own and reaches no model."""

_TEXTS = {"true": True, "false": False}


def is_explained(value: Parameter | None) -> bool:
    """Whether the parameter's value asks for an explanation; None for a request without it.

    Raises:
        InvalidArgumentError: it is neither a boolean nor the text of one.
    """
    if value is None:
        return False
    asked = value if isinstance(value, bool) else _TEXTS.get(value) if isinstance(value, str) else None
    if asked is None:
        raise InvalidArgumentError(
            f"invalid value for '{EXPLAIN}' parameter: {value!r}, expected true or false, as a bool_param or "
            "a string_param"
        )
    return asked


def explanation(response: InferResponse, handle: ModelHandle) -> dict[str, Parameter]:
    """The answer's parameters: times in microseconds, batch sizes in batch items.

    Instance and provider are there if an instance ran the request, which no cache and no ensemble is.

    Args:
        response: what the model gave.
        handle: on the version that gave it.
    """
    times = response.times
    told: dict[str, Parameter] = {
        "naiad_model_version": response.model.version,
        "naiad_queue_us": times.queue_ns // 1_000,
        "naiad_compute_us": max(0, times.compute_end_ns - times.compute_start_ns) // 1_000,
        "naiad_batch_size": response.batch_size,
        "naiad_batch_requests": response.batch_requests,
        "naiad_padding_rows": response.padding_rows,
        "naiad_batch_reason": response.batch_reason,
    }
    if response.batch_bucket:
        told["naiad_batch_bucket"] = response.batch_bucket
    if response.instance:
        told["naiad_instance"] = response.instance
        told["naiad_provider"] = handle.provider_of(response.instance)
    return told
