"""Which output of a model plays which role: by the names that a family has, else by dims. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.vision.heads.base import output_suits, unsuitable
from naiad.vision.heads.grid import outputs_like

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.vision.heads.base import HeadConfig


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a head looks for: its last dimensions (-1: any size), and names known for it."""

    dims: tuple[int, ...]
    names: tuple[str, ...] = ()
    optional: bool = False


def find_outputs(config: HeadConfig, wanted: Mapping[str, Wanted]) -> dict[str, str]:
    """The name of the output that has each role: one of its known names, else the only one of such dims.

    Args:
        config: the head's.
        wanted: the roles, in words that the errors can use ("scores").

    Returns:
        Role to name, optional roles that no output has left out.

    Raises:
        InvalidArgumentError: no output has a role, or several might have it.
    """
    named = {
        role: output.name
        for role, want in wanted.items()
        for output in config.outputs
        if output.name in want.names and output_suits(output, want.dims)
    }
    found = {}
    for role, want in wanted.items():
        like = [output.name for output in outputs_like(config, want.dims)]
        free = [name for name in like if name not in named.values()]
        if role in named:
            found[role] = named[role]
        elif len(free) == 1:
            found[role] = free[0]
        elif free or not want.optional:
            raise unsuitable(config, _needs(role, want, free))
    return found


def _needs(role: str, want: Wanted, like: list[str]) -> str:
    dims = ", ".join("any" if size == -1 else str(size) for size in want.dims)
    names = f" named {' or '.join(want.names)}" if want.names else ""
    several = f", and cannot tell which of {' and '.join(like)} it is," if like else ""
    return f"an output of {role} with dims [{dims}]{names}{several}"
