"""The `naiad` command."""

from naiad.cli.main import main

__all__ = ["main"]
