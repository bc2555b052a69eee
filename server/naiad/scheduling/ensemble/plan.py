"""Which steps of an ensemble a request needs, which can start, and how a tensor passes between them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from naiad.config.ensemble_checks import fits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from naiad.config.ensemble_config import EnsembleScheduling
    from naiad.core.tensors import Array


class Tensor(NamedTuple):
    """A tensor of the ensemble as it came from a caller or a model.

    `array` is None for an optional input that the caller left out; `batched` says that its first dimension is
    the batch.
    """

    array: Array | None
    batched: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request needs for the outputs that it asked for.

    `steps` has, for each step that is needed, by its index, the outputs of its model that are. `inputs` is
    how many tensors each step reads, `steps_of` the steps that read each tensor, ascending, and `readers` how
    many read it: the steps, and the caller.
    """

    steps: Mapping[int, tuple[str, ...]]
    inputs: Mapping[int, int]
    steps_of: Mapping[str, Sequence[int]]
    readers: Mapping[str, int]


def make_plan(ensemble: EnsembleScheduling, outputs: Collection[str]) -> Plan:
    """The plan for a request.

    Args:
        ensemble: statically valid.
        outputs: the ensemble's outputs that are asked for.
    """
    writers = {name: index for index, step in enumerate(ensemble.steps) for name in step.outputs.values()}
    needed: set[int] = set()
    wanted: set[str] = set()
    asked = set(outputs)
    todo = list(asked)
    while todo:
        name = todo.pop()
        wanted.add(name)
        writer = writers.get(name)
        if writer is not None and writer not in needed:
            needed.add(writer)
            todo += ensemble.steps[writer].inputs.values()
    reads = {index: set(ensemble.steps[index].inputs.values()) for index in sorted(needed)}
    steps_of: dict[str, list[int]] = {name: [] for name in wanted}
    for index, names in reads.items():
        for name in names:
            steps_of[name].append(index)
    readers = {name: len(steps) + (name in asked) for name, steps in steps_of.items()}
    steps = {
        index: tuple(ours for ours, theirs in ensemble.steps[index].outputs.items() if theirs in wanted)
        for index in reads
    }
    return Plan(steps, {index: len(names) for index, names in reads.items()}, steps_of, readers)


class Progress:
    """How far one request has come: the tensors that are there, and the steps that still wait for one."""

    def __init__(self, plan: Plan) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._missing = dict(plan.inputs)
        self._steps_of = plan.steps_of
        self._readers = dict(plan.readers)
        self._left = len(plan.steps)

    @property
    def is_complete(self) -> bool:
        """Whether every step that is needed has ended, so every output is there."""
        return not self._left

    def give(self, tensors: Mapping[str, Tensor]) -> list[int]:
        """Add tensors, each once; those that nobody reads are dropped.

        Returns:
            The steps that can start now, ascending. Each is told once.
        """
        ready = []
        for name, tensor in tensors.items():
            if not self._readers.get(name):
                continue
            self.tensors[name] = tensor
            for index in self._steps_of[name]:
                self._missing[index] -= 1
                if not self._missing[index]:
                    ready.append(index)
        ready.sort()
        return ready

    def take(self, names: Iterable[str]) -> dict[str, Tensor]:
        """What a step reads, each name once; a tensor that nobody else reads any more is kept no longer."""
        taken = {}
        for name in names:
            taken[name] = self.tensors[name]
            self._readers[name] -= 1
            if not self._readers[name]:
                del self.tensors[name]
        return taken

    def step_ended(self) -> None:
        """One step has given what it had to give."""
        self._left -= 1


def pass_on(tensor: Tensor, dims: Sequence[int], *, batched: bool) -> Array | None:
    """A tensor as its reader wants it, without a copy.

    Between two models that both batch, or neither, it goes as it is. A batching reader gets an item as a
    batch of one; a reader that does not batch gets a batch as it is if that is what its dims say, and
    otherwise the item of a batch of one. What fits in none of these ways is refused by its shape later on.

    Args:
        tensor: what is there.
        dims: the reader's, without a batch dimension; -1 is any size.
        batched: whether the reader's first dimension is the batch.
    """
    array = tensor.array
    if array is None or batched == tensor.batched:
        return array
    same = fits(dims, array.shape)
    if batched:
        return array[None] if same else array
    return array[0, ...] if not same and array.shape[0] == 1 else array


def stages(ensemble: EnsembleScheduling) -> list[list[int]]:
    """The steps by how many must end before them: those of one stage run at once, if all are as fast."""
    whole = [name for step in ensemble.steps for name in step.outputs.values()]
    progress = Progress(make_plan(ensemble, whole))
    written = set(whole)
    given = {name for step in ensemble.steps for name in step.inputs.values()} - written
    found = []
    while ready := progress.give(dict.fromkeys(given, Tensor(None, batched=False))):
        found.append(ready)
        given = {name for index in ready for name in ensemble.steps[index].outputs.values()}
    return found
