"""Which family of models a graph belongs to, and the `naiad.` block that its config could have. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from naiad.config.vision_parameters import read_vision_config
from naiad.core.errors import NaiadError
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder
from naiad.vision.recognise.embedders import embedder_block
from naiad.vision.recognise.evidence import Evidence, judge
from naiad.vision.recognise.families import FAMILIES, detector_block
from naiad.vision.recognise.proposal import Certainty, GraphFacts, Proposal

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.config.vision_config import VisionConfig
    from naiad.vision.recognise.proposal import Block

__all__ = ["Certainty", "GraphFacts", "Proposal", "recognise"]

MAX_SIDE = 4096
"""Graphs of larger inputs are not looked at: heads lay out anchors for every cell of a fixed input."""
EMBEDDER = "embedder"
"""The family of a proposal that is no head's."""


def recognise(config: ModelConfig, facts: GraphFacts | None = None) -> tuple[Proposal, ...]:
    """What a model without `naiad.` parameters may be, the surest first; nothing if it resembles no family.

    A head recognises its own outputs: each family's block is read and built as a load would, so a proposal is
    never refused by the server.

    Args:
        config: complete: its inputs and outputs are the graph's.
        facts: what else is known of the graph.
    """
    facts = facts or GraphFacts()
    if len(config.inputs) != 1 or max(config.inputs[0].dims, default=0) > MAX_SIDE:
        return ()
    found = [_detector(config, head, facts) for head in FAMILIES]
    proposals = [proposal for proposal in (*found, _embedder(config, facts)) if proposal]
    proposals.sort(key=lambda proposal: list(Certainty).index(proposal.certainty))
    sure = [proposal for proposal in proposals if proposal.certainty is Certainty.SURE]
    return tuple(sure or proposals)


def _detector(config: ModelConfig, head: str, facts: GraphFacts) -> Proposal | None:
    block = detector_block(head, config.inputs[0], facts)
    vision = _read(config, block)
    if vision is None:
        return None
    try:
        built = Detector(vision, config.inputs, config.outputs)
    except NaiadError:
        return None
    evidence = judge(head, config, vision, built.head.output_names, facts)
    return _proposal(head, evidence, block) if evidence else None


def _embedder(config: ModelConfig, facts: GraphFacts) -> Proposal | None:
    found = embedder_block(config, facts)
    if found is None:
        return None
    evidence, block = found
    vision = _read(config, block)
    if vision is None:
        return None
    try:
        Embedder(vision, config.inputs, config.outputs)
    except NaiadError:
        return None
    return _proposal(EMBEDDER, evidence, block)


def _read(config: ModelConfig, block: Block) -> VisionConfig | None:
    parameters = {**config.parameters, **dict(block.parameters)}
    try:
        return read_vision_config(replace(config, parameters=parameters))
    except NaiadError:
        return None


def _proposal(family: str, evidence: Evidence, block: Block) -> Proposal:
    return Proposal(family, evidence.certainty, evidence.text, block.parameters, block.notes)
