"""What each kind of setting takes, how settings follow from one another, and lists in the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from naiad.config.server_config import ServerConfig, is_list, server_config
from naiad.config.settings.backend_config import list_without_effect, parse_backend_config
from naiad.core.errors import InvalidArgumentError


def config(environment: dict[str, str] | None = None, **flags: Any) -> ServerConfig:
    return server_config({"model_repository": ["/a"], **flags}, environment or {})


def test_lists_come_from_the_environment_by_lines_and_names_also_by_colons() -> None:
    """A rule such as health:key=value holds a colon of its own."""
    read = config(
        {
            "NAIAD_LOAD_MODEL": "a:b\nc\n",
            "NAIAD_GRPC_RESTRICTED_PROTOCOL": "health:key=value\n inference,trace:other=x \n",
            "NAIAD_TRACE_CONFIG": "level=TIMESTAMPS",
        }
    )
    assert read.load_model == ("a", "b", "c")
    assert read.grpc_restricted_protocol == ("health:key=value", "inference,trace:other=x")
    assert read.trace_config == ("level=TIMESTAMPS",)


_ITEMS = {
    "backend_config": "default-max-batch-size=1",
    "cache_config": "local,size=1",
    "rate_limit_resource": "R:1:0",
}
"""Lists whose items are checked."""


def test_every_list_can_be_given_in_the_environment() -> None:
    for field in filter(is_list, ServerConfig.model_fields):
        item = _ITEMS.get(field, "x")
        read = server_config({"model_repository": ["/a"]}, {f"NAIAD_{field.upper()}": item})
        if field != "model_repository":
            assert getattr(read, field) == (item,)


def test_metrics_listen_where_http_does_unless_told_otherwise() -> None:
    assert config().metrics_address == "0.0.0.0"
    assert config(http_address="127.0.0.1").metrics_address == "127.0.0.1"
    assert config(http_address="127.0.0.1", metrics_address="::1").metrics_address == "::1"


def test_mutual_tls_is_tls() -> None:
    assert config(grpc_use_ssl_mutual="true").grpc_use_ssl is True
    assert config(grpc_use_ssl="true").grpc_use_ssl_mutual is False


def test_the_strict_model_config_of_old_disables_auto_complete() -> None:
    assert config(strict_model_config="true").disable_auto_complete_config is True
    assert config(strict_model_config="false").disable_auto_complete_config is False
    assert config(
        strict_model_config="false", disable_auto_complete_config="true"
    ).disable_auto_complete_config


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        ({}, 4),
        ({"backend_config": ["default-max-batch-size=8"]}, 8),
        ({"backend_config": ["onnxruntime,default-max-batch-size=16", "default-max-batch-size=8"]}, 16),
        ({"backend_config": ["tensorflow,default-max-batch-size=16"]}, 4),
        ({"backend_config": ["default-max-batch-size=8"], "default_max_batch_size": "2"}, 2),
    ],
)
def test_the_default_batch_size_comes_from_its_flag_then_the_backend_then_all_backends(
    flags: dict[str, Any], size: int
) -> None:
    assert config(**flags).default_max_batch_size == size


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("default-max-batch-size", "should be KEY=VALUE or BACKEND,KEY=VALUE"),
        (",default-max-batch-size=1", "should be KEY=VALUE or BACKEND,KEY=VALUE"),
        ("default-max-batch-size=-1", "'-1' should be a whole number from 0"),
        (
            "onnxruntime,default-max-batchsize=1",
            "unknown key 'default-max-batchsize'; known: default-max-batch-size",
        ),
    ],
)
def test_a_backend_config_that_cannot_be_honoured_is_refused(entry: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        config(backend_config=[entry])
    assert words in str(raised.value)
    assert "--backend-config=" in str(raised.value)
    assert "Undefined" not in str(raised.value)


def test_a_backend_config_without_effect_is_named_with_its_reason() -> None:
    entries = [
        "onnxruntime,intra_op_thread_count=4",
        "python,shm-region-prefix=x",
        "default-max-batch-size=2",
    ]
    first, second = list_without_effect(entries)
    assert "onnxruntime,intra_op_thread_count=4 has no effect" in first
    assert "--cpu-threads" in first
    assert "backend 'python' is not served" in second
    assert parse_backend_config(entries) == {"default-max-batch-size": 2}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"allow_grpc": "yes"}, "--allow-grpc=yes: it must be true, on, 1, false, off or 0"),
        ({"load_model": ["*", "a"]}, "* is every model and must be the only --load-model"),
        (
            {"model_config_name": "../x"},
            "--model-config-name=../x: it must be a name without blanks and slashes",
        ),
        (
            {"model_control_mode": "manual"},
            "--model-control-mode=manual: it must be one of none, poll, explicit",
        ),
        (
            {"model_control_mode": "Explict"},
            "--model-control-mode=explict: it must be one of none, poll, explicit; did you mean explicit?",
        ),
        (
            {"log_format": "JSON"},
            "--log-format=JSON: it must be one of text, json, default, ISO8601; did you mean json?",
        ),
        ({"repository_poll_secs": "0"}, "--repository-poll-secs=0: it must be above 0"),
        (
            {"exit_timeout_secs": "0"},
            "--exit-timeout-secs=0: it must be above 0, so that what was accepted is answered",
        ),
        ({"exit_timeout_secs": "soon"}, "--exit-timeout-secs=soon: it must be a number"),
        ({"exit_timeout_secs": "inf"}, "--exit-timeout-secs=inf: it must be a finite number"),
        ({"cpu_threads": "1.5"}, "--cpu-threads=1.5: it must be a whole number"),
        ({"model_repository": []}, "--model-repository=: it names nothing"),
        ({"http_max_input_size": "0"}, "--http-max-input-size=0: it must be at least 1"),
        ({"metrics_port": "65536"}, "--metrics-port=65536: it must be at most 65535"),
    ],
)
def test_a_wrong_value_names_its_flag_and_what_is_allowed(flags: dict[str, Any], words: str) -> None:
    """In our own words, whole: nothing of the validator's language is left."""
    with pytest.raises(InvalidArgumentError) as raised:
        config(**flags)
    assert words in str(raised.value)
    assert not re.search("[Ii]nput|[Vv]alid|pattern|Tuple", str(raised.value).replace("http-max-input", ""))


def test_no_setting_is_refused_in_the_validators_words() -> None:
    """Whatever kinds of settings there are: a text that none of them is."""
    texts = []
    for field in ServerConfig.model_fields:
        for text in ("-7", "x y/z", "1e999"):
            values: dict[str, Any] = {field: [text] if is_list(field) else text}
            try:
                config(**values)
            except InvalidArgumentError as error:
                texts.append(str(error))
    assert len(texts) > 100
    assert [text for text in texts if re.search("Input|Value error|valid ", text)] == []


def test_words_of_choices_and_verbosity_are_taken_as_triton_takes_them() -> None:
    read = config(
        model_control_mode="EXPLICIT", grpc_infer_response_compression_level="High", log_verbose="true"
    )
    assert read.model_control_mode == "explicit"
    assert read.grpc_infer_response_compression_level == "high"
    assert (read.log_verbose, config(log_verbose="3").log_verbose) == (1, 3)


def test_empty_file_flags_are_as_good_as_none() -> None:
    """Deployment templates give every flag, with nothing in those that are not used."""
    read = config(grpc_server_cert="", grpc_root_cert="cert.pem")
    assert (read.grpc_server_cert, read.grpc_root_cert) == (None, Path("cert.pem"))


def test_a_port_that_kubernetes_made_up_is_explained() -> None:
    """A service called naiad-grpc puts NAIAD_GRPC_PORT=tcp://... into its pods."""
    with pytest.raises(InvalidArgumentError, match="enableServiceLinks"):
        config({"NAIAD_GRPC_PORT": "tcp://10.0.0.1:8001"})
