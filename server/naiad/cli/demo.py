"""`naiad demo`: real models and real pictures without a download."""

from __future__ import annotations

import typer

demo = typer.Typer(help="Build the demo repository; run the demo.", no_args_is_help=True)
