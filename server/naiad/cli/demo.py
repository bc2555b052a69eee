"""`naiad demo`: real models and real pictures without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from naiad.core.errors import InvalidArgumentError

demo = typer.Typer(help="Build the demo repository; run the demo.", no_args_is_help=True)


@demo.command()
def build(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model repository to write.", show_default=False)
    ],
) -> None:
    """Build the demo's model repository in DIR, ready for `naiad serve --model-repository DIR`.

    Models that are there and up to date are left alone; other models in DIR are not touched.
    """
    # Imported here: the other commands have no use for the builder and its libraries.
    from naiad.demo.build import build_models  # noqa: PLC0415
    from naiad.demo.screen import Screen  # noqa: PLC0415

    screen = Screen()
    built = build_models(directory, screen)
    screen.step("Models", built.sentence)
    if built.written:
        for path in built.files:
            screen.line(f"  {path} ({path.stat().st_size:,} bytes)")


@demo.command()
def photo(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JPEG file to write.", show_default=False)],
) -> None:
    """Write the demo's photo, a portrait in the public domain, to try the client on."""
    # Imported here, as above.
    from naiad.demo.media import photo_jpeg  # noqa: PLC0415

    try:
        file.write_bytes(photo_jpeg())
    except OSError as error:
        raise InvalidArgumentError(f"cannot write {file}: {error.strerror}") from None
    typer.echo(f"wrote {file}")


@demo.command()
def photos(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write them into.", show_default=False)
    ],
    count: Annotated[int, typer.Option(metavar="COUNT", min=1, max=57, help="How many.")] = 24,
) -> None:
    """Write photos of 640x480 into DIR, all with the same face at different places and sizes.

    Both versions of the demo's detector find it in each of them.
    """
    # Imported here, as above.
    from naiad.demo.media import near_frames  # noqa: PLC0415

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for index, jpeg in enumerate(near_frames(count)):
            (directory / f"photo-{index:02d}.jpg").write_bytes(jpeg)
    except OSError as error:
        raise InvalidArgumentError(f"cannot write into {directory}: {error.strerror}") from None
    typer.echo(f"wrote {count} photos into {directory}")


@demo.command()
def version(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The version folder to write; not there yet.", show_default=False
        ),
    ],
    bits: Annotated[int, typer.Option(metavar="BITS", min=2, max=16, help="Bits of each weight.")] = 8,
) -> None:
    """Write the demo's detector with its weights rounded, as a further version to try an experiment on.

    With 8 bits it finds the same faces, with 4 bits it loses most of them. Write FOLDER outside of the model
    repository and move it there: a move is seen whole.
    """
    # Imported here, as above.
    from naiad.demo.versions import build_version  # noqa: PLC0415

    path = build_version(folder, bits)
    typer.echo(f"wrote {path} ({path.stat().st_size:,} bytes)")


@demo.command()
def run(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Where pictures, models and the server's log go.")
    ] = Path("demo-output"),
    frames: Annotated[int, typer.Option(metavar="COUNT", help="How many frames of video to stream.")] = 200,
) -> None:
    """Build the demo's models, serve them, find faces in a photo and a video.

    The server runs on a free port of this machine, for as long as the demo does. The exit code is 1 if any
    step does not give what it should.
    """
    # Imported here, as above.
    from naiad.demo.run import DemoSettings, run_demo  # noqa: PLC0415
    from naiad.demo.screen import Screen  # noqa: PLC0415

    run_demo(DemoSettings(output, frames), Screen())
