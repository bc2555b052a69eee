"""Messages as JSON and back: names as they are, numbers as numbers, defaults printed or not."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.services.http import messages

CONFIG = """
name: "m" max_batch_size: 4 version_policy { specific { versions: [1, 9007199254740993] } }
input { name: "a" data_type: TYPE_FP32 dims: [-1, 3] reshape { shape: [3] } }
instance_group { kind: KIND_CPU count: 2 }
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 5
                   priority_queue_policy { key: 1 value { default_timeout_microseconds: 7 } } }
parameters { key: "k" value { string_value: "v" } }
model_warmup { name: "w" inputs { key: "a" value { data_type: TYPE_FP32 dims: 3 zero_data: true } } }
"""


def numbered(value: Any) -> Any:
    """What protobuf prints, its 64-bit integers taken out of their quotes."""
    if isinstance(value, dict):
        return {key: numbered(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(numbered, value))
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


@pytest.mark.parametrize("text", ["", CONFIG])
def test_a_config_is_printed_as_protobuf_prints_it_but_with_numbers(text: str) -> None:
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    expected = json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert messages.to_json(config) == numbered(expected)


def test_defaults_are_left_out_when_asked() -> None:
    index = pb.RepositoryIndexResponse.ModelIndex(name="m", version="1", state="READY")
    assert messages.to_json(index, defaults=False) == {"name": "m", "version": "1", "state": "READY"}


def test_a_load_request_carries_the_config_and_the_decoded_files() -> None:
    body = {"parameters": {"config": "{}", "file:1/model.onnx": "AAEC"}}
    request = messages.load_request("", "m", body)
    assert request.model_name == "m"
    assert request.parameters["config"].string_param == "{}"
    assert request.parameters["file:1/model.onnx"].bytes_param == b"\0\1\2"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"file:a": "A"}, "failed to decode the base64 of 'file:a'"),
        ({"file:a": "é"}, "failed to decode the base64 of 'file:a'"),
        ({"config": {}}, "Unable to parse 'config': attempt to access JSON non-string as string"),
        ([], "Unable to parse 'parameters'"),
    ],
)
def test_a_wrong_load_request_says_which_parameter(parameters: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        messages.load_request("", "m", {"parameters": parameters})


def test_unloading_may_take_dependents_along() -> None:
    assert not messages.unload_request("", "m", {}).parameters
    request = messages.unload_request("", "m", {"parameters": {"unload_dependents": True}})
    assert request.parameters["unload_dependents"].bool_param
    with pytest.raises(InvalidArgumentError, match="Unable to parse 'unload_dependents'"):
        messages.unload_request("", "m", {"parameters": {"unload_dependents": "yes"}})


def test_memory_is_registered_by_key_or_handle() -> None:
    system = messages.system_register_request("r", {"key": "/k", "offset": 4, "byte_size": 2**63})
    assert (system.name, system.key, system.offset, system.byte_size) == ("r", "/k", 4, 2**63)
    cuda = messages.cuda_register_request(
        "r", {"raw_handle": {"b64": "AAEC"}, "device_id": 1, "byte_size": 8}
    )
    assert (cuda.name, cuda.raw_handle, cuda.device_id, cuda.byte_size) == ("r", b"\0\1\2", 1, 8)


@pytest.mark.parametrize(
    ("make", "name", "body", "text"),
    [
        (messages.system_register_request, "", {"key": "k", "byte_size": 1}, "'region name' is necessary"),
        (messages.system_register_request, "r", {"byte_size": 1}, "has no 'key' field"),
        (messages.system_register_request, "r", {"key": "k"}, "has no 'byte_size' field"),
        (messages.system_register_request, "r", {"key": "k", "byte_size": -1}, "non-unsigned-integer"),
        (messages.system_register_request, "r", {"key": "k", "byte_size": 2**64}, "non-unsigned-integer"),
        (messages.cuda_register_request, "r", {}, "has no 'raw_handle' field"),
        (messages.cuda_register_request, "r", {"raw_handle": {"b64": "!"}, "device_id": 0, "byte_size": 1}, "base64"),
        (messages.cuda_register_request, "r", {"raw_handle": {"b64": ""}, "device_id": 2**40, "byte_size": 1}, "device"),
    ],
)  # fmt: skip
def test_wrong_registrations_are_refused(make: Any, name: str, body: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        make(name, body)


def test_trace_settings_are_single_values_lists_or_cleared() -> None:
    request = messages.trace_request(
        "m", {"trace_level": ["TENSORS", "TIMESTAMPS"], "trace_rate": "1", "trace_count": None}
    )
    found = {key: list(setting.value) for key, setting in request.settings.items()}
    assert found == {"trace_level": ["TENSORS", "TIMESTAMPS"], "trace_rate": ["1"], "trace_count": []}
    with pytest.raises(InvalidArgumentError, match="Unable to parse 'trace_rate'"):
        messages.trace_request("", {"trace_rate": 1})


def test_log_settings_keep_their_types() -> None:
    request = messages.log_request(
        {"log_info": False, "log_verbose_level": 2, "log_format": "ISO8601", "x": None}
    )
    answer = pb.LogSettingsResponse.FromString(request.SerializeToString())
    assert messages.log_json(answer) == {"log_info": False, "log_verbose_level": 2, "log_format": "ISO8601"}
    wrong: list[Any] = [-1, 2**32, 1.5, []]
    for value in wrong:
        with pytest.raises(InvalidArgumentError, match="log_verbose_level"):
            messages.log_request({"log_verbose_level": value})
