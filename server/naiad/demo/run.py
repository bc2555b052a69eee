"""The demo: builds the models, serves them, calls them as users would, and shows what came back."""

from __future__ import annotations

import itertools
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonclient.utils import InferenceServerException

import naiad_client
from naiad import __version__
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.demo import media
from naiad.demo.build import build_models
from naiad.demo.next_steps import next_steps
from naiad.demo.report import show_photo, show_streams
from naiad.demo.server_process import ServerProcess, serve_command
from naiad.demo.tour import DETECTOR, EMBEDDER, IN_FLIGHT, Tour
from naiad.demo.triton_calls import TritonCalls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.demo.screen import Screen


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo is told: where its results go, and how long the stream is."""

    output: Path = Path("demo-output")
    frames: int = 200

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InvalidArgumentError(f"--frames={self.frames}: at least 1 is needed")


def run_demo(settings: DemoSettings, screen: Screen, command: Sequence[str] | None = None) -> None:
    """Run the whole demo; it leaves pictures, the server's log and a model repository in `settings.output`.

    Args:
        settings: see there.
        screen: where it shows what it does.
        command: how the server is started, in place of `naiad serve`.

    Raises:
        InvalidArgumentError: the output folder cannot be made or written to.
        NaiadError: a step did not give what it should; the message says which, and what the server said.
    """
    screen.heading(f"Naiad {__version__}: a photo, a video stream and two clients against one server")
    screen.line()
    output = _made(settings.output)
    built = build_models(output / "model_repository", screen)
    screen.step("Models", built.sentence)
    command = serve_command(built.repository) if command is None else list(command)
    with ServerProcess(command, output / "server.log") as server:
        jpeg, frames, address = _start(server, settings.frames, screen)
        with (
            _explained(server),
            naiad_client.Client(
                address, detector=DETECTOR, embedder=EMBEDDER, options=[("grpc.enable_http_proxy", 0)]
            ) as client,
            TritonCalls(address) as triton,
        ):
            tour = Tour(client, triton, screen, output)
            findings = tour.photo(jpeg)
            streams = tour.streams(frames)
            tour.triton_client(jpeg, findings)
        server.stop()
        screen.step("Server", "told to stop by SIGTERM, it finished its work and ended with exit code 0")
    show_photo(screen, findings)
    show_streams(screen, streams, IN_FLIGHT)
    _show_next(screen, built.repository, output / "photo.jpg")


def _made(output: Path) -> Path:
    """The folder, ready to be written to."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise InvalidArgumentError(f"--output={output}: {error.strerror or error}") from error
    return output


def _start(server: ServerProcess, count: int, screen: Screen) -> tuple[bytes, list[bytes], str]:
    """The photo, the frames (made while the server loads its models) and the server's address."""
    started = time.monotonic()
    with screen.waiting("Server", "naiad serve is loading the models and running each once"):
        jpeg = media.photo_jpeg()
        period = list(media.video_frames(min(count, media.PERIOD)))
        address = server.address()
    seconds = time.monotonic() - started
    screen.step(
        "Server", f"naiad serve listens on {address}, every model loaded and warm after {seconds:.1f} s"
    )
    return jpeg, list(itertools.islice(itertools.cycle(period), count)), address


@contextmanager
def _explained(server: ServerProcess) -> Iterator[None]:
    """Turns a failed call into an error that says what became of the server."""
    try:
        yield
    except (naiad_client.NaiadError, InferenceServerException) as error:
        raise InternalError(
            server.death() or f"a call to the server failed: {error}\n{server.log_tail()}"
        ) from error


def _show_next(screen: Screen, repository: Path, photo: Path) -> None:
    screen.line()
    screen.heading("What to try next:")
    for step in next_steps(repository, photo):
        screen.line(f"  # {step.reason}")
        screen.line(f"  {step.command}")
