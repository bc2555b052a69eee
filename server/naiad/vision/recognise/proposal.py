"""What is proposed for a model's config, and what a proposal is made from. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    Parameters = tuple[tuple[str, str], ...]


class Certainty(Enum):
    """How sure it is that a graph is of a family; the surest first."""

    SURE = "sure"  # nothing else is known to look so
    LIKELY = "likely"  # as the family's files look, and others could
    POSSIBLE = "possible"  # the head can read it, and so could be said of much else


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a graph tells beside its inputs and outputs.

    `normalises` says that it subtracts or multiplies before anything else, so that it wants plain pixels;
    `metadata` are the texts that its exporter left in the file.
    """

    normalises: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


class Block(NamedTuple):
    """`naiad.` parameters, and what of them is a guess, in sentences."""

    parameters: Parameters
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One family that a model may be of.

    `family` is a value of `naiad.head`, or `embedder`; `evidence` what it was read from; `parameters` the
    keys and values for the config; `notes` what the graph does not tell, and what was chosen.
    """

    family: str
    certainty: Certainty
    evidence: str
    parameters: Parameters
    notes: tuple[str, ...]

    @property
    def config(self) -> str:
        """The block as text of a config.pbtxt, a line a parameter, without a line break at the end."""
        return "\n".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
            for key, value in self.parameters
        )
