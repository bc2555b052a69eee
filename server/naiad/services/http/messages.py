"""Triton's messages as JSON, and the JSON of calls without tensors as messages."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.services.http.json_text import member, typed, unsigned, wrong_type

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

    Field = FieldDescriptor | Any  # the two implementations of protobuf have each their own


def to_json(message: Message, *, defaults: bool = True) -> dict[str, Any]:
    """A message as protobuf's JSON, but with its fields' own names and with 64-bit integers as numbers.

    Fields at their defaults are printed too unless `defaults` is false; fields that know whether they were
    set are printed if they were.
    """
    printed: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence:
            if message.HasField(field.name):
                printed[field.name] = _value(field, value, defaults=defaults)
        elif field.is_repeated:
            if defaults or value:
                printed[field.name] = _values(field, value, defaults=defaults)
        elif defaults or value != field.default_value:
            printed[field.name] = _value(field, value, defaults=defaults)
    return printed


def _values(field: Field, values: Any, *, defaults: bool) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        return {str(key): _value(entry, values[key], defaults=defaults) for key in sorted(values)}
    return [_value(field, value, defaults=defaults) for value in values]


def _value(field: Field, value: Any, *, defaults: bool) -> Any:
    if field.message_type is not None:
        return to_json(value, defaults=defaults)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value


def index_request(repository: str, body: dict[str, Any]) -> pb.RepositoryIndexRequest:
    """The request for the repository's index.

    Raises:
        InvalidArgumentError: `ready` is no boolean.
    """
    ready = body.get("ready", False)
    if type(ready) is not bool:
        raise InvalidArgumentError("Invalid value for 'ready': expected a boolean")
    return pb.RepositoryIndexRequest(repository_name=repository, ready=ready)


def load_request(repository: str, model: str, body: dict[str, Any]) -> pb.RepositoryModelLoadRequest:
    """The request to load a model, with a config and files if the body holds some.

    Raises:
        InvalidArgumentError: a parameter is no string, or a file no base64.
    """
    request = pb.RepositoryModelLoadRequest(repository_name=repository, model_name=model)
    for key, value in typed("parameters", body.get("parameters", {}), dict).items():
        text = typed(key, value, str)
        if key.startswith("file:"):
            request.parameters[key].bytes_param = _decoded(key, text)
        else:
            request.parameters[key].string_param = text
    return request


def unload_request(repository: str, model: str, body: dict[str, Any]) -> pb.RepositoryModelUnloadRequest:
    """The request to unload a model.

    Raises:
        InvalidArgumentError: `unload_dependents` is no boolean.
    """
    request = pb.RepositoryModelUnloadRequest(repository_name=repository, model_name=model)
    parameters = typed("parameters", body.get("parameters", {}), dict)
    if "unload_dependents" in parameters:
        value = typed("unload_dependents", parameters["unload_dependents"], bool)
        request.parameters["unload_dependents"].bool_param = value
    return request


def system_register_request(name: str, body: dict[str, Any]) -> pb.SystemSharedMemoryRegisterRequest:
    """The request to register a region of system shared memory.

    Raises:
        InvalidArgumentError: the name, the key or the size is missing, or a value of the wrong type.
    """
    _check_region("system", name)
    for key in ("key", "byte_size"):
        if key not in body:
            raise InvalidArgumentError(f"Shared memory register request has no '{key}' field")
    return pb.SystemSharedMemoryRegisterRequest(
        name=name,
        key=typed("key", body["key"], str),
        offset=unsigned("offset", body.get("offset", 0)),
        byte_size=unsigned("byte_size", body["byte_size"]),
    )


def cuda_register_request(name: str, body: dict[str, Any]) -> pb.CudaSharedMemoryRegisterRequest:
    """The request to register a region of a GPU's memory.

    Raises:
        InvalidArgumentError: something is missing, of the wrong type, or the handle no base64.
    """
    _check_region("cuda", name)
    if "raw_handle" not in body:
        raise InvalidArgumentError("Shared memory register request has no 'raw_handle' field")
    handle = member(body["raw_handle"], "b64", str)
    device = unsigned("device_id", member(body, "device_id", int))
    if device > 2**31 - 1:
        raise InvalidArgumentError(f"Unable to parse 'device_id': {device} is no device")
    return pb.CudaSharedMemoryRegisterRequest(
        name=name,
        raw_handle=_decoded("raw_handle", handle),
        device_id=device,
        byte_size=unsigned("byte_size", member(body, "byte_size", int)),
    )


def _check_region(kind: str, name: str) -> None:
    if not name:
        raise InvalidArgumentError(f"'region name' is necessary to register {kind} shared memory region")


def _decoded(key: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise InvalidArgumentError(f"failed to decode the base64 of '{key}': {error}") from None


def trace_request(model: str, body: dict[str, Any]) -> pb.TraceSettingRequest:
    """The request to change trace settings; null clears one.

    Raises:
        InvalidArgumentError: a setting is neither a string nor a list of strings.
    """
    request = pb.TraceSettingRequest(model_name=model)
    for key, value in body.items():
        values = [] if value is None else value if type(value) is list else [value]
        if not all(type(each) is str for each in values):
            raise wrong_type(key, "string")
        # Reading a setting puts it into the map: an empty one clears.
        request.settings[key].value.extend(values)
    return request


def trace_json(response: pb.TraceSettingResponse) -> dict[str, Any]:
    """The trace settings; all but the levels have one value."""
    return {
        key: list(setting.value) if key == "trace_level" else ",".join(setting.value)
        for key, setting in sorted(response.settings.items())
    }


def log_request(body: dict[str, Any]) -> pb.LogSettingsRequest:
    """The request to change log settings; null leaves one as it is.

    Raises:
        InvalidArgumentError: a setting is no boolean, no string and no integer of 32 bits.
    """
    request = pb.LogSettingsRequest()
    for key, value in body.items():
        if value is None:
            continue
        setting = request.settings[key]
        if type(value) is bool:
            setting.bool_param = value
        elif type(value) is str:
            setting.string_param = value
        elif unsigned(key, value) < 2**32:
            setting.uint32_param = value
        else:
            raise InvalidArgumentError(f"Unable to parse '{key}': {value} exceeds {2**32 - 1}")
    return request


def log_json(response: pb.LogSettingsResponse) -> dict[str, Any]:
    """The log settings, each in its own type."""
    return {
        key: getattr(setting, setting.WhichOneof("parameter_choice"))
        for key, setting in response.settings.items()
        if setting.WhichOneof("parameter_choice")
    }
