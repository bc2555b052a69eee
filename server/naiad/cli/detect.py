"""`naiad detect`, `naiad embed`, `naiad video`: pictures and videos through a server that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

Photos: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        metavar="PHOTO...", help="JPEG, PNG, WebP or BMP files, or folders of them.", show_default=False
    ),
]
SomePhotos: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PHOTO...", help="JPEG, PNG, WebP or BMP files, or folders of them.", show_default=False
    ),
]
WhatServer: TypeAlias = Annotated[
    Literal["naiad", "triton", "auto"],
    typer.Option("--mode", help="What the server is; faces are prepared here for a plain Triton."),
]
Server: TypeAlias = Annotated[
    str, typer.Option("--server", metavar="ADDRESS", help="Where the server listens for gRPC.")
]
Model: TypeAlias = Annotated[
    str, typer.Option("--model", metavar="NAME", help="The detector; may be left out if there is just one.")
]
Embedder: TypeAlias = Annotated[
    str,
    typer.Option("--embedder", metavar="NAME", help="The embedder, if there are several."),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Write results as JSON, one object a line.")]
Threshold: TypeAlias = Annotated[
    float | None, typer.Option("--score-threshold", metavar="SCORE", help="Leave out faces below it, 0 to 1.")
]
Output: TypeAlias = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Also write the pictures, drawn on, to DIR.")
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", help="Neither progress nor a summary; what failed is told all the same.")
]

DEFAULT_SERVER = "localhost:8001"


def detect(
    photos: Photos,
    *,
    server: Server = DEFAULT_SERVER,
    model: Model = "",
    output: Output = None,
    score_threshold: Threshold = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the faces in photos. The exit code is 1 if any of them failed."""
    # Imported here and below: the other commands have no use for the client and OpenCV.
    from naiad.cli.photos import PhotoJob, run_photos  # noqa: PLC0415

    job = PhotoJob(server, model, None, output, score_threshold, json, quiet=quiet)
    raise typer.Exit(run_photos(job, photos))


def embed(
    photos: SomePhotos = None,
    *,
    server: Server = DEFAULT_SERVER,
    mode: WhatServer = "naiad",
    model: Model = "",
    embedder: Embedder = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="PATH",
            help="Also write the pictures, drawn on, to this folder; with --migrate, vectors to this file.",
        ),
    ] = None,
    score_threshold: Threshold = None,
    json: Json = False,
    quiet: Quiet = False,
    migrate: Annotated[
        Path | None,
        typer.Option(
            "--migrate",
            metavar="FOLDER",
            help="Embed the aligned crops in FOLDER, and in folders within it, anew. Run it again to go on.",
        ),
    ] = None,
    to_version: Annotated[
        int | None,
        typer.Option("--to-version", metavar="N", min=0, help="With --migrate: the embedder's new version."),
    ] = None,
    find_faces: Annotated[
        bool, typer.Option("--find-faces", help="With --migrate: they are photos, find the faces in them.")
    ] = False,
) -> None:
    """Find the faces in photos and turn each into a vector; --json writes the vectors.

    With --migrate, --to-version and --output a folder is embedded anew by another version of the embedder.
    The exit code is 1 if any picture failed.
    """
    if migrate is None:
        from naiad.cli.photos import PhotoJob, run_photos  # noqa: PLC0415

        if not photos:
            raise typer.BadParameter("name at least one, or a folder with --migrate", param_hint="PHOTO")
        if to_version is not None or find_faces:
            raise typer.BadParameter("it is for --migrate", param_hint="--to-version, --find-faces")
        photo_job = PhotoJob(server, model, embedder, output, score_threshold, json, mode, quiet)
        raise typer.Exit(run_photos(photo_job, photos))
    from naiad.cli.migrate import MigrationJob, run_migration  # noqa: PLC0415

    if to_version is None or output is None:
        raise typer.BadParameter("--to-version and --output are wanted, too", param_hint="--migrate")
    if photos or json or quiet:
        raise typer.BadParameter("it goes with neither photos nor --json nor --quiet", param_hint="--migrate")
    if score_threshold is not None and not find_faces:
        raise typer.BadParameter("it needs --find-faces here", param_hint="--score-threshold")
    job = MigrationJob(
        server, mode, model, embedder, to_version, migrate, output, find_faces, score_threshold
    )
    raise typer.Exit(run_migration(job))


def video(
    source: Annotated[str, typer.Argument(metavar="IN", help="A video file, or anything OpenCV opens.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The video to write: .mp4 or .avi.")],
    *,
    server: Server = DEFAULT_SERVER,
    model: Model = "",
    embedder: Embedder = "",
    tracks: Annotated[bool, typer.Option("--tracks", help="Number faces from frame to frame.")] = False,
    with_embeddings: Annotated[
        bool, typer.Option("--embed", help="Embed the faces, too; each track once if there are --tracks.")
    ] = False,
    score_threshold: Threshold = None,
    json: Json = False,
) -> None:
    """Find the faces in each frame of a video and draw them. The exit code is 1 if any frame failed."""
    if embedder and not with_embeddings:
        raise typer.BadParameter("it needs --embed here", param_hint="--embedder")
    from naiad.cli.video import VideoJob, run_video  # noqa: PLC0415

    embedding = embedder if with_embeddings else None
    job = VideoJob(server, model, embedding, tracks, score_threshold, json)
    raise typer.Exit(run_video(job, source, target))
