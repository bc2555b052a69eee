"""The composition root: builds every part in one written order, and closes them in the reverse."""

from __future__ import annotations

from naiad.app.server import NaiadServer

__all__ = ["NaiadServer"]
