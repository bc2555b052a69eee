"""`naiad health`: ask a server that runs whether it lives or is ready, for the health checks of containers.

It runs again and again beside a server at work, so it loads next to nothing: no typer, no settings, and gRPC
for grpc:// alone. `naiad.__main__` comes here without loading the other commands.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

from naiad.core.errors import InvalidArgumentError, NaiadError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEFAULT_PORTS = {"http": 8000, "grpc": 8001}
"""Those of `naiad serve`; a test holds them to its settings."""

_OFF = frozenset({"false", "off", "0"})
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what is listened on, not bound
_MOST_OF_A_REASON_BYTES = 4_096

PAUSE_S = 0.2
"""Between two questions of one that waits."""


class Question(NamedTuple):
    """What is asked of whom: `model` is empty for the whole server; without `ready`, whether it lives.

    `wait_s` is how long it is asked again and again, 0 for once.
    """

    scheme: str
    host: str
    port: int
    ready: bool
    model: str
    headers: dict[str, str]
    timeout_s: float
    wait_s: float = 0.0

    @property
    def server(self) -> str:
        """The server in a message."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"the server at {self.scheme}://{host}:{self.port}"

    @property
    def subject(self) -> str:
        """What is asked about, in a message."""
        return f"model '{self.model}' of {self.server}" if self.model else self.server

    @property
    def state(self) -> str:
        """What it is asked to be: `ready` or `live`."""
        return "ready" if self.ready else "live"


def run(arguments: Sequence[str]) -> int:
    """Ask, and say the answer in one line.

    Returns:
        The exit code: 0 if the server is what was asked, else 1, whatever the reason.
    """
    try:
        question = read_question(arguments, os.environ)
        wait_for(question, ask)
    except NaiadError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{question.state}\n")
    return 0


def read_question(arguments: Sequence[str], environment: Mapping[str, str]) -> Question:
    """What the command line asks, of the server that the environment's settings describe unless it names one.

    Raises:
        InvalidArgumentError: an argument is unknown or wrong, or the environment leaves the port open.
    """
    given = _parser().parse_args(list(arguments))
    text = given.url or default_url(environment)
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError:
        port = None
    if url.scheme not in DEFAULT_PORTS or not url.hostname or not port or url.path.strip("/"):
        raise InvalidArgumentError(f"--url={text} should be http://HOST:PORT or grpc://HOST:PORT")
    for flag, seconds in (("timeout", given.timeout), ("wait", given.wait)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise InvalidArgumentError(f"--{flag}={seconds:g} should be above 0, and a number")
    return Question(
        scheme=url.scheme,
        host=url.hostname,
        port=port,
        ready=bool(given.ready or given.model),
        model=given.model,
        headers=dict(_header(text) for text in given.header),
        timeout_s=given.timeout,
        wait_s=given.wait or 0.0,
    )


def default_url(environment: Mapping[str, str]) -> str:
    """Where the server of these NAIAD_ variables listens: for HTTP, or for gRPC if HTTP is off.

    Raises:
        InvalidArgumentError: the variables let it take any free port, or name none.
    """
    scheme = "grpc" if environment.get("NAIAD_ALLOW_HTTP", "").strip().lower() in _OFF else "http"
    variable = f"NAIAD_{scheme.upper()}_PORT"
    port = environment.get(variable, "").strip() or str(DEFAULT_PORTS[scheme])
    if not (port.isascii() and port.isdigit()):
        raise InvalidArgumentError(f"{variable}={port} should be the number of a port")
    if port == "0":
        raise InvalidArgumentError(f"{variable}=0 takes any free port: say which it is with --url")
    address = environment.get(f"NAIAD_{scheme.upper()}_ADDRESS", "").strip()
    host = _LOOPBACK.get(address, address)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def wait_for(
    question: Question,
    ask: Callable[[Question], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Ask, and again until the answer is yes or the question's `wait_s` are over; no answer takes longer.

    Raises:
        UnavailableError: the last answer was no, or there was none; the message says why.
        InvalidArgumentError: no later answer can be another one.
    """
    if not question.wait_s:
        return ask(question)
    end_s = clock() + question.wait_s
    left_s = question.wait_s
    while True:
        try:
            return ask(question._replace(timeout_s=min(question.timeout_s, left_s)))
        except UnavailableError as error:
            left_s = end_s - clock() - PAUSE_S
            if left_s <= 0:
                raise UnavailableError(f"{error} (asked for {question.wait_s:g} s)") from None
        sleep(PAUSE_S)


def ask(question: Question) -> None:
    """Return if the answer is yes.

    Raises:
        UnavailableError: it is no, or there is none in time; the message says why.
        InvalidArgumentError: what is there speaks no HTTP.
    """
    if question.scheme == "grpc":
        _ask_grpc(question)
    else:
        _ask_http(question)


def _ask_http(question: Question) -> None:
    about = f"models/{quote(question.model, safe='')}" if question.model else "health"
    path = f"/v2/{about}/{question.state}"
    connection = http.client.HTTPConnection(question.host, question.port, timeout=question.timeout_s)
    try:
        connection.request("GET", path, headers=question.headers)
        answer = connection.getresponse()
        body = answer.read(_MOST_OF_A_REASON_BYTES)
    except OSError as error:
        raise UnavailableError(f"{question.server} does not answer: {error}") from None
    except http.client.HTTPException:  # its text is what came, such as gRPC's binary frames
        raise InvalidArgumentError(
            f"{question.server} does not answer in HTTP: a gRPC port is asked by grpc://HOST:PORT"
        ) from None
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise UnavailableError(
            f"{question.subject} is not {question.state}: {answer.status} {answer.reason}{_reason(body)}"
        )


def _ask_grpc(question: Question) -> None:
    import grpc  # noqa: PLC0415  # not loaded for HTTP
    from tritonclient.grpc import service_pb2, service_pb2_grpc  # noqa: PLC0415

    host = f"[{question.host}]" if ":" in question.host else question.host
    options = [("grpc.enable_http_proxy", 0)]  # what is asked is the server at this address
    with grpc.insecure_channel(f"{host}:{question.port}", options=options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        if question.model:
            call, request = stub.ModelReady, service_pb2.ModelReadyRequest(name=question.model)
        elif question.ready:
            call, request = stub.ServerReady, service_pb2.ServerReadyRequest()
        else:
            call, request = stub.ServerLive, service_pb2.ServerLiveRequest()
        metadata = [(name.lower(), value) for name, value in question.headers.items()]
        try:
            answer = call(request, timeout=question.timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            reason = f"{error.code().name}, {error.details()}"
            raise UnavailableError(f"{question.server} does not answer: {reason}") from None
    if not (answer.ready if question.ready else answer.live):
        raise UnavailableError(f"{question.subject} is not {question.state}")


def _reason(body: bytes) -> str:
    """The server's own words, if it has any."""
    try:
        return f", {json.loads(body)['error']}"
    except (ValueError, TypeError, KeyError):
        return ""


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidArgumentError(f"--header={text} should be NAME=VALUE")
    return name, value


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as the other commands do; argparse's exit code 2 is one that Docker reserves."""

    def error(self, message: str) -> NoReturn:
        raise InvalidArgumentError(f"naiad health: {message}")


def _parser() -> _Parser:
    parser = _Parser(
        prog="naiad health",
        description="Ask a server that runs whether it lives. The exit code is 0 if it does, else 1.",
        epilog="Without --url it asks the server that the NAIAD_ variables of this environment describe: "
        "http://127.0.0.1:8000 if there are none.",
        allow_abbrev=False,
    )
    parser.add_argument("--url", help="http://HOST:PORT or grpc://HOST:PORT, without TLS")
    parser.add_argument("--ready", action="store_true", help="ask whether it is ready, not whether it lives")
    parser.add_argument("--model", default="", metavar="NAME", help="ask whether this model is ready")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a header to send, where --http-restricted-api or --grpc-restricted-protocol asks for one",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long one answer may take (default: 5)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="ask again until it is so, for so long at most (default: ask once)",
    )
    return parser
