"""Settings that cannot be together are refused; those that change nothing are named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from naiad.config.server_config import ServerConfig, server_config
from naiad.config.settings_checks import check_settings, list_notes, list_unknown_variables
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path


def config(**flags: Any) -> ServerConfig:
    return server_config({"model_repository": ["/a"], **flags}, {})


def refusal(**flags: Any) -> str:
    with pytest.raises(InvalidArgumentError) as raised:
        check_settings(config(**flags))
    return str(raised.value)


def test_the_defaults_go_together_and_need_no_word() -> None:
    check_settings(config())
    assert list_notes(config()) == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"http_port": 8001},
            "The server cannot listen to HTTP requests and GRPC requests at the same address and port "
            "0.0.0.0:8001: change --http-port or --grpc-port",
        ),
        (
            {"metrics_port": 8001},
            "GRPC requests and metrics requests at the same address and port 0.0.0.0:8001",
        ),
        ({"metrics_port": 8000, "http_address": "127.0.0.1"}, "HTTP requests and metrics requests"),
        ({"http_port": 8001, "http_address": "127.0.0.1"}, "HTTP requests and GRPC requests"),
    ],
)
def test_two_services_on_one_address_and_port_are_refused(flags: dict[str, Any], words: str) -> None:
    """A service on every address is on each one."""
    assert words in refusal(**flags)


@pytest.mark.parametrize(
    "flags",
    [
        {"http_port": 8001, "allow_http": "false"},
        {"http_port": 8001, "allow_grpc": "false"},
        {"metrics_port": 8001, "allow_metrics": "off"},
        {"http_port": 0, "grpc_port": 0, "metrics_port": 0},
        {"http_port": 8001, "http_address": "127.0.0.1", "grpc_address": "127.0.0.2"},
        {"http_port": 8001, "grpc_address": "unix:/tmp/socket"},
    ],
)
def test_ports_that_do_not_meet_are_taken(flags: dict[str, Any]) -> None:
    check_settings(config(**flags))


def test_something_must_be_served() -> None:
    assert "--allow-grpc and --allow-http are both false" in refusal(allow_grpc="0", allow_http="0")


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_models_are_named_in_explicit_mode_only(mode: str) -> None:
    text = refusal(load_model=["a", "b"], model_control_mode=mode)
    assert "Use of '--load-model' requires setting '--model-control-mode=explicit' as well" in text
    assert text.endswith(f"--load-model is a, b and --model-control-mode {mode}")
    check_settings(config(load_model=["a", "b"], model_control_mode="explicit"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"profile_directory": "."}, "--profile-directory needs --profile-model beside it"),
        ({"profile_model": ["m"]}, "--profile-model needs --profile-directory beside it"),
    ],
)
def test_profiles_need_a_folder_and_a_model(flags: dict[str, Any], words: str) -> None:
    assert refusal(**flags) == words
    check_settings(config(profile_directory=".", profile_model=["m"]))


def test_tls_needs_its_files_there_and_readable(tmp_path: Path) -> None:
    cert, key, root = (tmp_path / name for name in ("cert.pem", "key.pem", "root.pem"))
    assert refusal(grpc_use_ssl="true") == "--grpc-use-ssl needs --grpc-server-cert, a PEM file"
    cert.touch()
    assert "needs --grpc-server-key" in refusal(grpc_use_ssl="true", grpc_server_cert=cert)
    files = {"grpc_server_cert": cert, "grpc_server_key": key}
    assert refusal(grpc_use_ssl="true", **files) == f"--grpc-server-key={key}: there is no such file"
    key.touch()
    check_settings(config(grpc_use_ssl="true", **files))
    assert refusal(grpc_use_ssl_mutual="true", **files).startswith(
        "--grpc-use-ssl-mutual needs --grpc-root-cert"
    )
    assert f"--grpc-root-cert={root}" in refusal(grpc_use_ssl_mutual="true", grpc_root_cert=root, **files)
    check_settings(config(grpc_use_ssl="true", allow_grpc="false"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_key_that_this_user_cannot_read_is_told(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()
    (tmp_path / "key.pem").chmod(0)
    text = refusal(
        grpc_use_ssl="true", grpc_server_cert=tmp_path / "cert.pem", grpc_server_key=tmp_path / "key.pem"
    )
    assert text == f"--grpc-server-key={tmp_path / 'key.pem'}: the file cannot be read by this user"


def test_settings_that_change_nothing_are_named() -> None:
    notes = list_notes(
        config(
            strict_model_config="1",
            backend_config=["python,a=b"],
            rate_limit_resource=["R:1"],
        )
    )
    assert [note.split("=")[0].split(" ")[0] for note in notes] == [
        "--backend-config",
        "--strict-model-config",
        "--rate-limit-resource",
    ]
    assert "R:1 has no effect without --rate-limit=execution_count" in notes[2]


def test_a_variable_that_is_no_setting_is_named_with_what_may_be_meant() -> None:
    environment = {
        "NAIAD_GRPC_PROT": "1",
        "NAIAD_GPRC_PORT": "1",
        "NAIAD_HOST_POLICY": "0,numa-node=0",
        "NAIAD_GRPC_PORT": "1",
        "NAIAD_HTTP_THREAD_COUN": "1",
        "NAIAD_ZZZZZZZZ": "1",
        "PATH": "/bin",
    }
    gprc, prot, policy, handlers, other = list_unknown_variables(environment)
    assert "NAIAD_GPRC_PORT is no setting and changes nothing; did you mean NAIAD_GRPC_PORT" in gprc
    assert prot.endswith("did you mean NAIAD_GRPC_PORT?")
    assert "did you mean" not in handlers  # what is near is a flag of tritonserver that is no setting
    assert "instances are not bound to cores" in policy
    assert other == "NAIAD_ZZZZZZZZ is no setting and changes nothing"


def test_what_kubernetes_puts_into_the_environment_is_passed_over() -> None:
    """For a service called naiad, or naiad-something."""
    links = {
        "NAIAD_SERVICE_HOST": "10.0.0.1",
        "NAIAD_SERVICE_PORT": "8001",
        "NAIAD_SERVICE_PORT_GRPC": "8001",
        "NAIAD_PORT": "tcp://10.0.0.1:8001",
        "NAIAD_PORT_8001_TCP": "tcp://10.0.0.1:8001",
        "NAIAD_PORT_8001_TCP_ADDR": "10.0.0.1",
        "NAIAD_FACES_PORT": "tcp://10.0.0.1:8001",
    }
    assert list_unknown_variables(links) == ()


def test_a_limit_that_the_chosen_transport_does_not_have_is_told() -> None:
    notes = list_notes(config(grpc_transport="grpcio", grpc_max_pending_bytes=1))
    assert [note.split(" has no effect")[0] for note in notes] == ["--grpc-max-pending-bytes=1"]
    assert list_notes(config(grpc_transport="grpcio")) == ()
    assert list_notes(config(grpc_max_pending_bytes=1)) == ()
