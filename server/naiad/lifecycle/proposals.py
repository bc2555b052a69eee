"""What a model without `naiad.` parameters could be declared as: its graph, looked at once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.runtime.graph_facts import read_facts
from naiad.vision.recognise import GraphFacts, recognise

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.vision.recognise import Proposal


def propose(config: ModelConfig, file: Path) -> tuple[Proposal, ...]:
    """The families that a model may be of, the surest first; nothing for one that is declared already.

    Args:
        config: complete.
        file: the version's ONNX file, read again only if its inputs and outputs look like a vision model's.
    """
    if config.vision is not None or not recognise(config):
        return ()
    facts = read_facts(file)
    return recognise(config, GraphFacts(facts.normalises, facts.metadata) if facts else None)
