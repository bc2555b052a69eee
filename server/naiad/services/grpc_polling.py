"""What gRPC's core must be told before it is imported: which of its two ways to wait for sockets it takes.

Its newer one, the event engine, hands every read and write from a thread of its own to the one that polls for
Python. Without it the polling thread does both. `docs/benchmarks.md` says what that is worth, and
`docs/adr/0001-grpc-event-engine.md` why it is safe.
"""

from __future__ import annotations

import mmap
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

VARIABLE = "GRPC_EXPERIMENTS"

OFF = ("event_engine_listener", "event_engine_client")
"""Names of gRPC's core, on by default, that are switched off."""


def choose_polling(environ: MutableMapping[str, str], core: Path | None = None) -> str:
    """Set gRPC's variable, unless the operator has, or this gRPC knows other names.

    Args:
        environ: the process's environment; gRPC reads it when it is imported.
        core: gRPC's compiled core; found beside the installed package if None.

    Returns:
        What the variable holds now; empty for gRPC's own choice.
    """
    if VARIABLE not in environ:
        core = core or _installed_core()
        # A name that gRPC does not know would be a line of complaint at each start.
        if core is not None and all(_mentions(core, name) for name in OFF):
            environ[VARIABLE] = ",".join(f"-{name}" for name in OFF)
    return environ.get(VARIABLE, "")


def _installed_core() -> Path | None:
    spec = find_spec("grpc")  # looks for it without importing it
    folders = spec.submodule_search_locations if spec else None
    cores = (core for folder in folders or () for core in Path(folder, "_cython").glob("cygrpc*.so"))
    return next(cores, None)


def _mentions(core: Path, name: str) -> bool:
    with core.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(name.encode() + b"\0") >= 0
