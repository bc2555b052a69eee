"""`naiad check --propose`: what models could be declared as, as text for their configs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.cli.check_text import printable
from naiad.vision.recognise import Certainty

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.lifecycle.inspection import Inspection, ModelReport
    from naiad.vision.recognise import Proposal


def proposals_text(inspection: Inspection) -> str:
    """The proposals for all models; what a model is less likely, or not surely, is commented out.

    What is there for one model can be appended to its config as it is.
    """
    blocks = [block for model in inspection.models for block in _model_blocks(model)]
    return "\n\n".join(blocks or ["# no model without naiad. parameters resembles a known family"]) + "\n"


def _model_blocks(model: ModelReport) -> Iterator[str]:
    """A block for each family that any version of the model resembles; they share one config."""
    plans = [version.plan for version in model.versions if version.plan]
    proposals = list(dict.fromkeys(proposal for plan in plans for proposal in plan.proposals))
    for index, proposal in enumerate(proposals):
        is_chosen = index == 0 and proposal.certainty is not Certainty.POSSIBLE
        yield _block(model.name, proposal, is_chosen=is_chosen)


def _block(name: str, proposal: Proposal, *, is_chosen: bool) -> str:
    head = f"{name}: {proposal.family} ({proposal.certainty.value}), read from {proposal.evidence}"
    text = proposal.config if is_chosen else _commented(proposal.config.splitlines())
    return "\n".join([_commented([head, *proposal.notes]), text])


def _commented(lines: Sequence[str]) -> str:
    return "\n".join(f"# {printable(line)}" for line in lines)
