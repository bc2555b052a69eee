"""Which servers `--engine` names."""

from __future__ import annotations

import pytest

from naiad.config.engine_address import is_local, parse_engine
from naiad.config.server_config import server_config
from naiad.core.errors import InvalidArgumentError


def test_one_server_or_several_each_once() -> None:
    assert parse_engine("triton://gpu-1:8001") == ("gpu-1:8001",)
    assert parse_engine("triton://a:1, b:2,[::1]:3,a:1/") == ("a:1", "b:2", "[::1]:3")


@pytest.mark.parametrize(
    "text", ["gpu:8001", "http://gpu:8001", "triton://", "triton://gpu", "triton://a:1,,b:2"]
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="triton://"):
        parse_engine(text)


@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_that_there_is_not_is_refused(port: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"gpu:{port}"):
        parse_engine(f"triton://gpu:{port}")


def test_the_flag_says_what_is_wrong_with_its_value() -> None:
    with pytest.raises(InvalidArgumentError, match="--engine=gpu:1: .*triton://HOST:PORT"):
        server_config({"model_repository": ["."], "engine": "gpu:1"}, {})
    config = server_config({"model_repository": ["."]}, {"NAIAD_ENGINE": "triton://a:1,a:1"})
    assert config.engine == "triton://a:1"


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:8001", True),
        ("127.0.0.1:8001", True),
        ("127.1.2.3:1", True),
        ("[::1]:8001", True),
        ("unix:/run/triton", True),
        ("dns:///localhost:1", True),
        ("10.0.0.1:8001", False),
        ("localhost.example:1", False),
        ("gpu:8001", False),
    ],
)
def test_only_loopback_and_sockets_are_surely_here(target: str, local: bool) -> None:
    assert is_local(target) is local
