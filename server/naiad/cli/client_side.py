"""What the commands that call a server have in common: the connection, progress, results as text and JSON."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import naiad_client
from naiad.core.errors import InternalError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from naiad_client import AnalyzeResult, DetectResult, Face

READY_TIMEOUT_S = 5.0


@contextmanager
def connected(address: str, **settings: Any) -> Iterator[naiad_client.Client]:
    """A client of the server there, once that is ready; `settings` as for the client.

    Raises:
        UnavailableError: nothing answers there, or it went away; says how to start a server.
        InternalError: a call failed that the whole command depends on.
    """
    try:
        with naiad_client.Client(address, **settings) as client:
            client.wait_until_ready(READY_TIMEOUT_S)
            yield client
    except (naiad_client.UnavailableError, naiad_client.DeadlineExceededError) as error:
        raise UnavailableError(
            f"no server answers at {address} ({error.message}): start one with "
            "'naiad serve --model-repository DIR' ('naiad demo build DIR' makes one), or name another one "
            "with --server"
        ) from error
    except naiad_client.NaiadError as error:
        raise InternalError(f"the server at {address} refuses: {error}") from error


@contextmanager
def progress(label: str, total: int | None, *, hidden: bool = False) -> Iterator[Callable[[], None]]:
    """A bar on standard error, where that is a terminal; yields what to call for each one done."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=(console := Console(stderr=True)),
        transient=True,
        disable=hidden or not console.is_terminal,
    )
    with bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


def say(text: str) -> None:
    """A line of results."""
    typer.echo(text)


def note(text: str) -> None:
    """A line about the work itself, which is no result."""
    typer.echo(text, err=True)


def complain(text: str) -> None:
    """A line about something that failed while the rest goes on."""
    typer.secho(text, fg="red", err=True)


def counted(count: int, noun: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def as_json(result: DetectResult | AnalyzeResult, **more: Any) -> str:
    """A result as one line of JSON; `more` comes first."""
    detector = result.detector if isinstance(result, naiad_client.AnalyzeResult) else result.model
    version = result.detector_version if isinstance(result, naiad_client.AnalyzeResult) else result.version
    told = more | {"model": detector, "version": version}
    if isinstance(result, naiad_client.AnalyzeResult):
        told |= {
            "embedder": result.embedder,
            "embedder_version": result.embedder_version,
            "embedding_space": result.embedding_space,
        }
    told |= {"width": result.image_width, "height": result.image_height, "timing": asdict(result.timing)}
    return json.dumps(told | {"faces": [_face(face) for face in result.faces]})


def _face(face: Face) -> dict[str, Any]:
    told: dict[str, Any] = {"box": list(face.box), "score": face.score}
    for name in ("landmarks", "embedding"):
        if (values := getattr(face, name)) is not None:
            told[name] = values.tolist()
    for name in ("label", "track_id", "embedding_frame_id"):
        if (value := getattr(face, name)) is not None:
            told[name] = value
    return told
