"""A model config as JSON, which a load request may bring along, to Triton's `ModelConfig` message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from naiad.config.messages import MAX_CONFIG_BYTES, new_message
from naiad.config.strict_json import parse_object
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from naiad.config.messages import Message

_SOURCE = "the config of the load request"


def parse_json(text: str) -> Message:
    """The `ModelConfig` message that `text` spells as protobuf JSON.

    Field names are those of `config.pbtxt`; enums may be of any case, integers may be quoted.

    Raises:
        InvalidArgumentError: no JSON, no object, an unknown or repeated field, a value out of range, or more
            than `MAX_CONFIG_BYTES`.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_CONFIG_BYTES:
        raise InvalidArgumentError(f"{_SOURCE} has {size} bytes, a model config at most {MAX_CONFIG_BYTES}")
    value = parse_object(text, _SOURCE)
    message = new_message()
    try:
        json_format.ParseDict(_with_upper_enums(value, message.DESCRIPTOR), message)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{_SOURCE}: {error}") from None
    return message


def _with_upper_enums(value: Any, descriptor: Any) -> Any:
    """The same value, the names of enums in upper case; what does not fit is left to the parser."""
    if not isinstance(value, dict):
        return value
    fields = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    return {name: _with_upper_enum(item, fields.get(name)) for name, item in value.items()}


def _with_upper_enum(value: Any, field: Any) -> Any:
    if isinstance(value, list):
        return [_with_upper_enum(item, field) for item in value]
    if field is None:
        return value
    if field.enum_type is not None:
        return value.upper() if isinstance(value, str) else value
    if field.message_type is None:
        return value
    if field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        pairs = value.items() if isinstance(value, dict) else ()
        return {key: _with_upper_enum(item, entry) for key, item in pairs} if pairs else value
    return _with_upper_enums(value, field.message_type)
