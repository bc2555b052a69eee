"""`naiad health` as a container's health check runs it: one line, exit code 0 or 1, next to nothing loaded."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from support.processes import naiad_environment
from support.servers import address, http_address, server
from typer.testing import CliRunner

from naiad.cli import health
from naiad.cli.main import app
from naiad.config.server_config import ServerConfig, environment_name
from naiad.core.errors import InvalidArgumentError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = "http://127.0.0.1:8000"


def naiad(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "naiad", "health", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env=naiad_environment(**environment)
    )


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_server_that_lives_is_told_from_one_that_is_ready(
    scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server one of whose models does not load lives, and is not ready; nor is the model."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.pbtxt").write_text("max_batch_size: ?")
    async with server(tmp_path, exit_on_error=False) as running:
        url = f"--url={scheme}://{http_address(running) if scheme == 'http' else address(running)}"
        codes = [
            await _in_thread(url),
            await _in_thread(url, "--ready"),
            await _in_thread(url, "--model=broken"),
        ]
        told = capsys.readouterr()
    assert codes == [0, 1, 1]
    assert [line for line in told.out.splitlines() if line in {"live", "ready"}] == ["live"]
    about_server, about_model = told.err.splitlines()
    assert about_server.startswith(f"error: the server at {scheme}://127.0.0.1:")
    assert " is not ready" in about_server
    assert about_model.startswith(f"error: model 'broken' of the server at {scheme}://127.0.0.1:")
    if scheme == "http":
        assert about_model.endswith(" is not ready: 400 Bad Request, Model version not ready")


async def test_a_grpc_port_asked_over_http_is_told_without_its_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with server(tmp_path) as running:
        assert await _in_thread(f"--url=http://{address(running)}") == 1
    told = capsys.readouterr().err
    assert told.endswith(" does not answer in HTTP: a gRPC port is asked by grpc://HOST:PORT\n")


def test_who_waits_asks_again_until_it_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a server that is not ready twice, and then is."""
    asked: list[str] = []

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if len(asked) == 3 else 400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Starting) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            assert (
                health.run(["--ready", "--wait=30", f"--url=http://127.0.0.1:{listening.server_port}"]) == 0
            )
        finally:
            listening.shutdown()
            thread.join()
    assert asked == ["/v2/health/ready"] * 3
    assert capsys.readouterr() == ("ready\n", "")


def test_waiting_ends_in_time_and_says_what_the_last_answer_was() -> None:
    """No answer is waited for beyond that; on a clock that moves when somebody sleeps or is asked."""
    now_s = 0.0
    given_s: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def ask(question: health.Question) -> None:
        given_s.append(question.timeout_s)
        sleep(question.timeout_s)
        raise UnavailableError(f"no answer {len(given_s)}")

    question = health.read_question(["--wait=12", "--timeout=5"], {})
    with pytest.raises(UnavailableError, match=r"^no answer 3 \(asked for 12 s\)$"):
        health.wait_for(question, ask, clock=lambda: now_s, sleep=sleep)
    assert given_s == pytest.approx([5, 5, 12 - 10 - 2 * health.PAUSE_S])
    assert now_s == pytest.approx(12)
    given_s.clear()
    with pytest.raises(UnavailableError, match=r"^no answer 1 \(asked for 2 s\)$"):
        health.wait_for(question._replace(wait_s=2), ask, clock=lambda: now_s, sleep=sleep)
    assert given_s == [2]


def test_a_wrong_port_is_told_at_once_by_who_waits() -> None:
    """It speaks no HTTP now, nor will it later."""

    def ask(_: health.Question) -> None:
        raise InvalidArgumentError("no HTTP")

    with pytest.raises(InvalidArgumentError, match="^no HTTP$"):
        health.wait_for(health.read_question(["--wait=30"], {}), ask)


async def test_headers_open_a_restricted_health_endpoint(tmp_path: Path) -> None:
    async with server(tmp_path, http_restricted_api=("health:key=secret",)) as running:
        url = f"--url=http://{http_address(running)}"
        assert await _in_thread(url) == 1
        assert await _in_thread(url, "--header=key=secret") == 0


async def _in_thread(*arguments: str) -> int:
    """The server that is asked runs in this test's loop."""
    return await asyncio.to_thread(health.run, arguments)


def test_no_answer_is_exit_code_1_and_one_line() -> None:
    """In a process, as a container's engine runs it; of the default port nothing is known here."""
    result = naiad("--timeout=1", NAIAD_HTTP_ADDRESS="127.0.0.1", NAIAD_HTTP_PORT="1")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: the server at http://127.0.0.1:1 does not answer: ")
    assert result.stderr.count("\n") == 1


def test_it_loads_nothing_that_takes_long() -> None:
    """Neither the command line's library, nor the settings', nor gRPC, nor numpy."""
    script = (
        "import sys, naiad.__main__ as start\n"
        "sys.argv = ['naiad', 'health', '--url=http://127.0.0.1:1']\n"
        "try: start.main()\n"
        "except SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) & {"typer", "rich", "pydantic", "grpc", "numpy", "onnxruntime"} == set()


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, DEFAULT),
        ({"NAIAD_HTTP_PORT": "", "NAIAD_HTTP_ADDRESS": ""}, DEFAULT),
        ({"NAIAD_HTTP_PORT": "9000", "NAIAD_HTTP_ADDRESS": "0.0.0.0"}, "http://127.0.0.1:9000"),
        ({"NAIAD_HTTP_ADDRESS": "::"}, "http://[::1]:8000"),
        ({"NAIAD_HTTP_ADDRESS": "10.0.0.7"}, "http://10.0.0.7:8000"),
        ({"NAIAD_ALLOW_HTTP": "Off"}, "grpc://127.0.0.1:8001"),
        ({"NAIAD_ALLOW_HTTP": "true", "NAIAD_GRPC_PORT": "9001"}, DEFAULT),
        ({"NAIAD_ALLOW_HTTP": "0", "NAIAD_GRPC_PORT": "9001"}, "grpc://127.0.0.1:9001"),
    ],
)
def test_without_a_url_it_asks_the_server_of_the_environment(environment: dict[str, str], url: str) -> None:
    assert health.default_url(environment) == url
    question = health.read_question([], environment)
    assert question == health.read_question([f"--url={url}"], {"NAIAD_HTTP_PORT": "0"})


def test_what_it_knows_of_the_settings_without_loading_them_is_so() -> None:
    fields = ServerConfig.model_fields
    for scheme, port in health.DEFAULT_PORTS.items():
        assert fields[f"{scheme}_port"].default == port
        assert environment_name(f"{scheme}_port") == f"NAIAD_{scheme.upper()}_PORT"
        assert environment_name(f"{scheme}_address") == f"NAIAD_{scheme.upper()}_ADDRESS"
    assert environment_name("allow_http") == "NAIAD_ALLOW_HTTP"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--url=localhost:8000", "--url=localhost:8000 should be http://HOST:PORT or grpc://HOST:PORT"),
        ("--url=https://host:1", "--url=https://host:1 should be http://HOST:PORT"),
        ("--url=http://host:x", "--url=http://host:x should be"),
        ("--url=http://host", "--url=http://host should be"),
        ("--header=key", "--header=key should be NAME=VALUE"),
        ("--timeout=0", "--timeout=0 should be above 0"),
        ("--timeout=nan", "--timeout=nan should be above 0"),
        ("--wait=0", "--wait=0 should be above 0"),
        ("--wait=inf", "--wait=inf should be above 0, and a number"),
        ("--timeout=soon", "invalid float value: 'soon'"),
        ("--adress=x", "unrecognized arguments: --adress=x"),
    ],
)
def test_a_wrong_argument_is_exit_code_1_and_named(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never argparse's 2, which Docker reserves."""
    assert health.run([argument]) == 1
    assert message in capsys.readouterr().err


def test_a_port_that_nobody_can_know_has_to_be_said() -> None:
    with pytest.raises(InvalidArgumentError, match="NAIAD_HTTP_PORT=0 takes any free port"):
        health.default_url({"NAIAD_HTTP_PORT": "0"})


def test_a_grpc_server_that_is_not_there_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"the server at grpc://127\.0\.0\.1:1 does not answer: "):
        health.ask(health.read_question(["--url=grpc://127.0.0.1:1", "--ready"], {}))


def test_the_help_of_all_commands_names_it() -> None:
    assert "health" in CliRunner().invoke(app, ["--help"]).stdout
    result = CliRunner().invoke(app, ["health", "--url=nowhere"])
    assert result.exit_code == 1
