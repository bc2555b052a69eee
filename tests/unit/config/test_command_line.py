"""tritonserver's command line: its forms, its flags of old, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.config.command_line import CommandLine, parse_command_line
from naiad.config.refused_flags import OTHER_FLAGS, FlagState
from naiad.config.server_config import ServerConfig, flag_name, is_boolean, server_config
from naiad.core.errors import InvalidArgumentError, NaiadError, UnsupportedError

if TYPE_CHECKING:
    from naiad.config.refused_flags import OtherFlag


def parse(text: str) -> CommandLine:
    return parse_command_line(text.split())


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("--grpc-port 1", {"grpc_port": "1"}),
        ("--grpc-port=1", {"grpc_port": "1"}),
        ("--grpc-port=1 --grpc-port 2", {"grpc_port": "2"}),
        ("--id x=y", {"server_id": "x=y"}),
        ("--id=", {"server_id": ""}),
        ("--disable-auto-complete-config", {"disable_auto_complete_config": "true"}),
        ("--exit-on-error --id x", {"exit_on_error": "true", "server_id": "x"}),
        ("--exit-on-error false --id x", {"exit_on_error": "false", "server_id": "x"}),
        ("--load-model=a --load-model b", {"load_model": ["a", "b"]}),
        ("--model-store /a --model-repository=/b", {"model_repository": ["/a", "/b"]}),
    ],
)
def test_each_form_is_read(text: str, flags: dict[str, object]) -> None:
    assert parse(text).flags == flags


def test_every_setting_can_be_given_and_every_boolean_alone() -> None:
    for field in ServerConfig.model_fields:
        assert field in parse(f"{flag_name(field)}=1").flags
        if is_boolean(field):
            assert parse(flag_name(field)).flags == {field: "true"}
        else:
            with pytest.raises(InvalidArgumentError, match=f"{flag_name(field)} needs a value"):
                parse(f"{flag_name(field)} --exit-on-error")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--grpc-prot=1", "unknown flag --grpc-prot; did you mean --grpc-port?"),
        ("--grpc_port=1", "unknown flag --grpc_port; did you mean --grpc-port?"),
        ("--port=1", "unknown flag --port; did you mean --http-port or --grpc-port?"),  # equally near
        ("--zzzzzz", "unknown flag --zzzzzz"),
        ("-p 1", "unknown flag -p"),
        ("models", "unexpected argument 'models'"),
        ("--grpc-port", "--grpc-port needs a value"),
        ("--model-repository=", "--model-repository needs a value, and it is empty"),
        ("--trace-rate=1 --trace-config=level=OFF", "--trace-rate and --trace-config exclude each other"),
        ("--cache-config=local,size=1 --response-cache-byte-size=1", "exclude each other"),
        ("--trace-config level=OFF --trace-file f", "--trace-file and --trace-config exclude each other"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        parse(text)
    assert words in str(raised.value)


def test_trace_flags_of_old_become_entries_of_the_new_one_with_a_warning() -> None:
    line = parse(
        "--trace-file f --trace-level TIMESTAMPS --trace-rate=2 --trace-count 3 --trace-log-frequency=4"
    )
    assert line.flags == {
        "trace_config": ["triton,file=f", "level=TIMESTAMPS", "rate=2", "count=3", "triton,log-frequency=4"]
    }
    assert line.warnings[0] == "--trace-file is deprecated: the same as --trace-config triton,file=VALUE"
    assert len(line.warnings) == 5


def test_the_cache_size_of_old_is_the_size_of_the_local_cache_and_0_none() -> None:
    line = parse("--response-cache-byte-size=1048576")
    assert line.flags == {"cache_config": ["local,size=1048576"]}
    assert line.warnings == [
        "--response-cache-byte-size is deprecated: the same as --cache-config local,size=VALUE"
    ]
    assert parse("--response-cache-byte-size=0 --cache-config=local,size=2").flags == {
        "cache_config": ["local,size=2"]
    }


@pytest.mark.parametrize(
    "row", [row for row in OTHER_FLAGS if row.state is FlagState.REFUSED], ids=lambda row: row.name
)
def test_a_refused_flag_is_refused_with_its_value_and_what_to_do(row: OtherFlag) -> None:
    with pytest.raises(UnsupportedError) as raised:
        parse(row.name if row.boolean else f"{row.name} something")
    value = "true" if row.boolean else "something"
    assert str(raised.value) == f"{row.name}={value} is not supported: {row.note}"
    if row.default is not None:
        assert parse(f"{row.name}={row.default.upper()}") == CommandLine()


@pytest.mark.parametrize(
    "row", [row for row in OTHER_FLAGS if row.state is FlagState.WITHOUT_EFFECT], ids=str
)
def test_a_flag_without_effect_is_named_unless_its_value_is_the_default(row: OtherFlag) -> None:
    given = "false" if row.boolean else "12345"
    line = parse(f"{row.name} {given}")
    assert line.flags == {}
    assert [text.startswith(f"{row.name}={given} has no effect: ") for text in line.warnings] == [True]
    if row.default is not None:
        assert parse(f"{row.name} {row.default}").warnings == []


def test_a_usual_tritonserver_command_line_is_taken_whole() -> None:
    """As deployment charts write it."""
    line = parse(
        "--model-store=/models --model-control-mode=explicit --load-model=* --strict-model-config=false "
        "--http-port 9000 --http-thread-count=16 --allow-gpu-metrics=0 --pinned-memory-pool-byte-size=1 "
        "--rate-limit=OFF --allow-sagemaker=False --log-verbose=1 --grpc-keepalive-time=1000 "
        "--metrics-config summary_latencies=true --trace-config triton,file=/tmp/t --backend-config "
        "onnxruntime,default-max-batch-size=8"
    )
    config = server_config(line.flags, {})
    assert (config.http_port, config.load_model, config.default_max_batch_size) == (9000, ("*",), 8)
    assert config.allow_gpu_metrics is False
    assert len(line.warnings) == 3  # --model-store, --http-thread-count, --pinned-memory-pool-byte-size


def test_no_error_is_of_another_kind() -> None:
    """The command turns this server's own errors into one line and exit code 1; others would be tracebacks."""
    for text in ("--", "-", "---", "=", "--=", "--model-repository", "a=b", "--rate-limit"):
        with pytest.raises(NaiadError):
            parse(text)
