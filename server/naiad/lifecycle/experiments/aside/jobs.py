"""What the process aside is asked to do, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.tensors import ModelKey

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.core.tensors import Tensors
    from naiad.vision.agreement import Agreement, AnswerSigns


@dataclass(frozen=True, slots=True)
class ShadowJob:
    """Run a request once more, on the candidate, and say how far its answer agrees with the baseline's.

    `inputs` and `outputs` are the request's and the answer's tensors in their full shapes. They are kept
    alive until they are copied and must not change before; an input that is read from a `TensorSource` has
    no values yet, so that its request cannot be shadowed.
    """

    model: str
    baseline: int
    candidate: int
    inputs: Tensors
    outputs: Tensors
    request_id: str = ""

    @property
    def key(self) -> ModelKey:
        """The version that is to run."""
        return ModelKey(self.model, self.candidate)


@dataclass(frozen=True, slots=True)
class SignsJob:
    """Look into an answer that a version gave. Of the request's `inputs` only the shapes are read."""

    model: str
    version: int
    outputs: Tensors
    inputs: Tensors

    @property
    def key(self) -> ModelKey:
        """The version that answered."""
        return ModelKey(self.model, self.version)


AsideJob = ShadowJob | SignsJob


class KeepWorst(NamedTuple):
    """Where a shadow's worst disagreements are kept, how many, and of which experiment they are."""

    folder: Path
    keep: int
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class ModelOpened:
    """A version is open aside. `notes` are sentences about what is otherwise than in its config."""

    key: ModelKey
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShadowResult:
    """How far the candidate's answer agrees with the baseline's.

    `candidate_ms` is the CPU time of the candidate's run in milliseconds (on a GPU the wall's): how long it
    takes in a process that runs when nothing else does says nothing. `kept_path` is where the request was
    kept as one of the worst, `not_kept` why it was not though it is one.
    """

    agreement: Agreement
    candidate_ms: float
    kept_path: Path | None = None
    not_kept: str = ""


@dataclass(frozen=True, slots=True)
class SignsResult:
    """What an answer alone shows."""

    signs: AnswerSigns


@dataclass(frozen=True, slots=True)
class JobFailed:
    """Nothing came of it, and why.

    `is_candidates_fault` says that the candidate refused or failed, or that the process ended while it ran.
    `gave_up` says that nothing more is asked of this version until it is opened anew.
    """

    reason: str
    is_candidates_fault: bool
    gave_up: bool = False


AsideResult = ShadowResult | SignsResult | ModelOpened | JobFailed


def held_bytes(job: AsideJob) -> int:
    """About how many bytes a job keeps alive: the texts of BYTES tensors count as their references alone."""
    # Lists, because this is done for each request and generators cost more than the sums.
    sizes = [array.nbytes for array in job.outputs.values()]
    return sum(sizes + [array.nbytes for array in job.inputs.values()])
