"""`naiad check --propose`: what models could be declared as, as text for their configs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.cli.check_text import printable
from naiad.core.errors import InvalidArgumentError
from naiad.vision.recognise import Certainty

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.lifecycle.inspection import Inspection, ModelReport
    from naiad.vision.recognise import Proposal


def proposals_text(models: Sequence[ModelReport]) -> str:
    """The proposals for the models; what a model is less likely, or not surely, is commented out.

    What is there for one model can be appended to its config as it is.
    """
    blocks = [block for model in models for block in _model_blocks(model)]
    return "\n\n".join(blocks or ["# no model without naiad. parameters resembles a known family"]) + "\n"


def report_of(inspection: Inspection, name: str) -> ModelReport:
    """What was found of one model.

    Raises:
        InvalidArgumentError: there is no such model; names those that there are.
    """
    for model in inspection.models:
        if model.name == name:
            return model
    names = ", ".join(printable(model.name) for model in inspection.models) or "none"
    raise InvalidArgumentError(f"--model={printable(name)} is no model of these repositories: {names}")


def proposals_of(model: ModelReport) -> list[Proposal]:
    """The families that any version of a model resembles, the likeliest first; they share one config."""
    plans = [version.plan for version in model.versions if version.plan]
    return list(dict.fromkeys(proposal for plan in plans for proposal in plan.proposals))


def is_chosen(proposals: Sequence[Proposal], proposal: Proposal) -> bool:
    """Whether a proposal is what its model's config gets; the others are comments in it."""
    return proposal is proposals[0] and proposal.certainty is not Certainty.POSSIBLE


def _model_blocks(model: ModelReport) -> Iterator[str]:
    proposals = proposals_of(model)
    for proposal in proposals:
        yield _block(model.name, proposal, is_chosen=is_chosen(proposals, proposal))


def _block(name: str, proposal: Proposal, *, is_chosen: bool) -> str:
    head = f"{name}: {proposal.family} ({proposal.certainty.value}), read from {proposal.evidence}"
    text = proposal.config if is_chosen else _commented(proposal.config.splitlines())
    return "\n".join([_commented([head, *proposal.notes]), text])


def _commented(lines: Sequence[str]) -> str:
    return "\n".join(f"# {printable(line)}" for line in lines)
