"""A config as JSON: what clients of Triton send is read, everything else is refused by name."""

from __future__ import annotations

import json
import time

import pytest
from google.protobuf import json_format

from naiad.config.json_config import parse_json
from naiad.config.messages import MAX_CONFIG_BYTES, parse_text
from naiad.core.errors import InvalidArgumentError

TEXT = """
name: "m" max_batch_size: 16
input { name: "I" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [3, -1, 8] }
instance_group { kind: KIND_CPU count: 2 }
version_policy { specific { versions: [1, 3] } }
dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: DELAY } } }
parameters { key: "naiad.Task" value { string_value: "Detect" } }
"""


def test_json_says_the_same_as_text() -> None:
    message = parse_text(TEXT, "test")
    text = json_format.MessageToJson(message, preserving_proto_field_name=True)
    assert parse_json(text) == message


def test_enums_are_of_any_case_and_numbers_may_be_quoted_but_strings_stay() -> None:
    text = json.dumps(
        {
            "name": "m",
            "max_batch_size": "16",
            "input": [{"name": "I", "data_type": "type_fp32", "format": "format_NCHW", "dims": ["3", -1, 8]}],
            "instance_group": [{"kind": "Kind_Cpu", "count": "2"}],
            "version_policy": {"specific": {"versions": ["1", 3]}},
            "dynamic_batching": {"priority_queue_policy": {"1": {"timeout_action": "delay"}}},
            "parameters": {"naiad.Task": {"string_value": "Detect"}},
        }
    )
    assert parse_json(text) == parse_text(TEXT, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "is not JSON: .* line 1 column 2"),
        ("", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ('{"no_such_field": 1}', 'no field named "no_such_field"'),
        ('{"name": "a", "name": "b"}', "'name' is given twice"),
        ('{"max_batch_size": NaN}', "NaN is no JSON number"),
        ('{"max_batch_size": 1.5}', "max_batch_size"),
        ('{"max_batch_size": 4294967296}', "Value out of range"),
        ('{"max_batch_size": "many"}', "max_batch_size"),
        ('{"input": {"name": "I"}}', "input"),
        ('{"input": [null]}', "input"),
        ('{"input": [{"data_type": "TYPE_FP33"}]}', "data_type"),
        ('{"parameters": []}', "parameters"),
        ('{"parameters": {"a": 3}}', "parameters"),
        ('{"name": "\\ud800"}', "name"),
        ('{"input": ' + "[" * 100_000, "recursion"),
        ('{"name": "' + "x" * MAX_CONFIG_BYTES + '"}', f"a model config at most {MAX_CONFIG_BYTES}"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"the config of the load request.*{message}"):
        parse_json(text)


def test_a_repeated_key_of_very_many_is_found_at_once() -> None:
    """A config may have megabytes of keys, and other loads wait for the thread that reads it."""
    keys = ",".join(f'"k{number}":0' for number in range(200_000))
    started = time.thread_time()
    with pytest.raises(InvalidArgumentError, match="'k199999' is given twice"):
        parse_json(f'{{{keys},"k199999":0}}')
    assert time.thread_time() - started < 10  # minutes, where each key is compared with each
