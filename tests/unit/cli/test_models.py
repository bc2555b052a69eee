"""`naiad models` against a server that runs: what it shows, what it does, and the server's own reasons."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, server
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.cli.model_calls import Line, ModelCalls
from naiad.cli.model_changes import list_changes
from naiad.core.errors import InvalidArgumentError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.app import NaiadServer

EXPLICIT: dict[str, Any] = {"model_control_mode": "explicit", "allow_metrics": False}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_model(tmp_path / "models", "simple", add_sub(), ADD_SUB_CONFIG)
    add_model(tmp_path / "models", "broken", b"no graph", ADD_SUB_CONFIG)
    return tmp_path / "models"


async def run(running: NaiadServer, *arguments: str) -> Any:
    """The server that is asked runs in this test's loop; its log would be the command's output."""
    command = ["models", *arguments, "--address", address(running)]
    with capture_logs():
        return await asyncio.to_thread(CliRunner().invoke, app, command)


def words(result: Any) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines() if line.strip()]


async def test_models_are_listed_loaded_and_unloaded(repository: Path) -> None:
    async with server(repository, **EXPLICIT) as running:
        listed = await run(running, "list")
        loaded = await run(running, "load", "simple")
        ready = await run(running, "list", "simple", "--json")
        unloaded = await run(running, "unload", "simple")
        gone = await run(running, "list", "simple")
    assert words(listed) == [
        ["MODEL", "VERSION", "STATE", "REASON"],
        ["broken", "not", "loaded"],
        ["simple", "not", "loaded"],
    ]
    assert loaded.stdout == "simple: version 1 serves\n"
    assert json.loads(ready.stdout) == [{"name": "simple", "version": 1, "state": "READY", "reason": ""}]
    assert unloaded.stdout == "simple: unloaded\n"
    assert words(gone)[1] == ["simple", "1", "UNAVAILABLE", "unloaded"]
    assert [each.exit_code for each in (listed, loaded, ready, unloaded, gone)] == [0] * 5


async def test_a_model_that_does_not_load_is_exit_code_1_and_the_servers_reason(repository: Path) -> None:
    """The others named beside it are loaded all the same."""
    async with server(repository, **EXPLICIT) as running:
        result = await run(running, "load", "broken", "simple")
        told = await run(running, "load", "broken", "simple", "--json")
    assert (result.exit_code, told.exit_code) == (1, 1)
    assert result.stdout == "simple: version 1 serves\n"
    assert "broken: load failed for model 'broken': version 1 is at UNAVAILABLE state: " in result.stderr
    first, second = json.loads(told.stdout)
    assert (first["name"], first["ok"], second["ok"]) == ("broken", False, True)
    assert "load failed" in first["reason"]


async def test_a_reload_says_what_is_different(repository: Path) -> None:
    async with server(repository, **EXPLICIT) as running:
        await run(running, "load", "simple")
        same = await run(running, "reload", "simple")
        (repository / "simple" / "1").rename(repository / "simple" / "2")
        (repository / "simple" / "config.pbtxt").write_text(
            ADD_SUB_CONFIG.replace("max_batch_size: 8", "max_batch_size: 16")
        )
        other = await run(running, "reload", "simple")
        (repository / "simple" / "2" / "model.onnx").write_bytes(b"no graph")
        broken = await run(running, "reload", "simple")
        still = await run(running, "list", "simple")
    assert same.stdout.startswith("simple: version 1 serves, as before")
    assert other.stdout.splitlines() == [
        "simple: version 2 serves now",
        "simple: version 1 serves no longer",
        "simple: max_batch_size is 16, was 8",
    ]
    assert (broken.exit_code, "load failed" in broken.stderr) == (1, True)
    assert ["simple", "2", "READY"] in words(still)


async def test_another_mode_and_an_unknown_name_are_refused(repository: Path) -> None:
    async with server(repository, exit_on_error=False) as running:
        refused = await run(running, "load", "simple")
        unknown = await run(running, "list", "simpel")
    assert (refused.exit_code, unknown.exit_code) == (1, 1)
    assert refused.stderr == ("simple: explicit model load / unload is not allowed if polling is enabled\n")
    assert isinstance(unknown.exception, InvalidArgumentError)
    assert str(unknown.exception) == "no model simpel is in the server's repositories"


async def test_headers_open_a_restricted_repository(repository: Path) -> None:
    restricted = ("model-repository:key=secret",)
    async with server(repository, **EXPLICIT, grpc_restricted_protocol=restricted) as running:
        shut = await run(running, "load", "simple")
        opened = await run(running, "load", "simple", "--header", "triton-grpc-protocol-key=secret")
    assert (shut.exit_code, opened.exit_code) == (1, 0)


def test_no_server_is_told_with_its_address() -> None:
    with ModelCalls("localhost:1") as calls, pytest.raises(UnavailableError, match="answers at localhost:1"):
        calls.index()


def test_a_header_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="--header=secret should be NAME=VALUE"):
        ModelCalls("localhost:1", ["secret"])


def _config(**fields: Any) -> Any:
    return model_config_pb2.ModelConfig(name="m", max_batch_size=8, **fields)


def test_tensors_and_other_fields_that_differ_are_named() -> None:
    float32 = model_config_pb2.TYPE_FP32
    old = _config(
        input=[{"name": "X", "data_type": float32, "dims": [3]}],
        output=[{"name": "Y", "data_type": float32, "dims": [1]}],
    )
    new = _config(
        input=[{"name": "X", "data_type": float32, "dims": [4]}],
        output=[{"name": "Z", "data_type": float32, "dims": [1]}],
        default_model_filename="other.onnx",
    )
    lines = {1: Line("m", 1, "READY", "")}
    assert list_changes(lines, lines, old, new) == [
        "input 'X' is TYPE_FP32 [4], was TYPE_FP32 [3]",
        "output 'Z' is TYPE_FP32 [1]",
        "output 'Y' is gone",
        "the config differs in default_model_filename",
    ]
    assert list_changes(lines, lines, old, old) == []
    assert list_changes({}, lines, None, new) == ["version 1 serves now"]
