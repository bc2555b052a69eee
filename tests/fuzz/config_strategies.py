"""Texts of `config.pbtxt`, sound and less so, and the JSON of load requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from fuzz.strategies import damaged
from support.repositories import ADD_SUB_CONFIG
from support.sequences import CONTROL_INPUTS, IO, STATE

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]

SEEDS = (
    ADD_SUB_CONFIG,
    f'name: "m" max_batch_size: 4 sequence_batching {{ direct {{ }} {CONTROL_INPUTS % "STRING"} }} {IO}',
    f"sequence_batching {{ oldest {{ max_candidate_sequences: 4 }} {STATE % ''} }} {IO} max_batch_size: 2",
    """backend: "onnxruntime" max_batch_size: 0 default_model_filename: "model.onnx"
    input [ { name: "i" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, -1, 8 ] reshape { shape: [ 3, 8 ] } } ]
    output [ { name: "o" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" reshape { shape: [ ] } } ]
    version_policy { specific { versions: [ 1, 3 ] } }
    instance_group [ { name: "g" count: 2 kind: KIND_CPU gpus: [ 0 ] profile: [ "1" ] } ]""",
    """max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
    priority_levels: 3 default_priority_level: 2 preserve_ordering: true default_queue_policy {
    timeout_action: DELAY default_timeout_microseconds: 5 allow_timeout_override: true max_queue_size: 9 }
    priority_queue_policy { key: 1 value { timeout_action: REJECT } } }
    optimization { graph { level: 1 } execution_accelerators { cpu_execution_accelerator [ { name: "openvino" } ] } }
    model_warmup [ { name: "w" batch_size: 1 inputs { key: "i" value { data_type: TYPE_FP32 dims: [ 4 ]
    zero_data: true } } } ] parameters { key: "naiad.preprocess" value: { string_value: "letterbox" } }
    cc_model_filenames { key: "a" value: "b" } model_transaction_policy { decoupled: false }
    response_cache { enable: false } metric_tags { key: "k" value: "v" }""",
    """ensemble_scheduling { step [ { model_name: "../x" model_version: -1 input_map { key: "a" value: "b" }
    output_map { key: "c" value: "d" } } ] } platform: "ensemble" """,
)
TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    ";",
    '"',
    "#",
    "<",
    ">",
    "\\",
    "'",
    "-1",
    "0",
    "1",
    "1e999",
    "nan",
    "inf",
    "9" * 30,
    "9" * 5000,
    "-9223372036854775808",
    "18446744073709551616",
    "true",
    "TYPE_FP32",
    "TYPE_BF16",
    "TYPE_INVALID",
    "KIND_GPU",
    "FORMAT_NHWC",
    'name: "../x"',
    'label_filename: "../../etc/passwd"',
    "max_batch_size: 2147483647",
    "dims: [ 9223372036854775807, 9223372036854775807 ]",
    "count: 2147483647",
    'default_model_filename: "../../x"',
    '"\\xff"',
    '"\\ud800"',
    "\x00",
    "\ufeff",
    "é",
    "[a.b/c] { }",
    "dims: [ -2 ]",
    "dims: [ ]",
    "reshape { shape: [ -1, 0 ] }",
    "input { }",
    "output { }",
    "latest { }",
    "parameters { key: 'naiad.normalize' value { string_value: '[' } }",
    "all { }",
    "priority_levels: 99999999",
    "max_queue_delay_microseconds: 18446744073709551615",
    "sequence_batching { }",
    "{ " * 300,
    "} " * 50,
]


@st.composite
def config_texts(draw: Draw) -> str:
    """A sound config of which some tokens are others, and perhaps some bytes."""
    words = draw(st.sampled_from(SEEDS)).split(" ")
    for _ in range(draw(st.integers(0, 6))):
        position = draw(st.integers(0, len(words)))
        change = draw(st.sampled_from(["insert", "replace", "delete", "repeat", "move"]))
        if change == "insert":
            words.insert(position, draw(st.sampled_from(TOKENS)))
        elif change == "replace":
            words[position : position + 1] = [draw(st.sampled_from(TOKENS))]
        elif change == "delete":
            del words[position : position + draw(st.integers(1, 6))]
        elif change == "repeat":
            words[position:position] = words[position : position + draw(st.integers(1, 30))]
        else:
            words[position:position] = draw(st.sampled_from(SEEDS)).split(" ")[: draw(st.integers(1, 60))]
    text = " ".join(words)
    if draw(st.integers(0, 4)) == 0:
        text = draw(damaged(text.encode())).decode("utf-8", "replace")
    return text


_FIELDS = st.sampled_from(
    [
        "name",
        "backend",
        "max_batch_size",
        "maxBatchSize",
        "input",
        "output",
        "dims",
        "data_type",
        "parameters",
        "dynamic_batching",
        "instance_group",
        "version_policy",
        "latest",
        "specific",
        "kind",
        "count",
        "key",
        "optimization",
        "sequence_batching",
        "model_warmup",
        "label_filename",
        "reshape",
        "string_value",
        "@type",
    ]
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["TYPE_FP32", "type_int8", "KIND_CPU", "1e999", "\ud800", "9" * 400, "../x", "-1", "8"]),
)
config_jsons = st.recursive(
    _VALUES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_FIELDS, inner, max_size=4)),
    max_leaves=12,
).map(json.dumps)
"""The `config` parameter of a load request."""
