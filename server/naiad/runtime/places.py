"""Where the batches of a version run: the sessions of instances on the CPU, the lanes of those on a GPU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from naiad.runtime.cuda.lanes import open_lanes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import ExitStack

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.layout import Instance
    from naiad.runtime.onnx_session import OnnxSession
    from naiad.runtime.session import Session


class RunPlace(NamedTuple):
    """A place to run a batch, the instance that it belongs to, and the provider that it prefers."""

    instance: str
    session: Session
    provider: str


class Reopen(Protocol):
    """Opens the session of an instance once more."""

    def __call__(self, instance: Instance, opened: ExitStack, /, *, graphs: bool) -> OnnxSession:
        """The session, which `opened` closes."""
        ...


def run_places(
    pairs: Iterable[tuple[Instance, OnnxSession]],
    config: ModelConfig,
    *,
    reopen: Reopen,
    opened: ExitStack,
    notes: dict[str, None],
) -> Iterator[RunPlace]:
    """The places of each active instance.

    Args:
        pairs: the instances and their sessions.
        config: complete.
        reopen: opens a session without CUDA graphs.
        opened: closes what is opened here.
        notes: what was decided is added to its keys.

    Raises:
        NaiadError: a session cannot be opened again.
    """
    for instance, session in pairs:
        if instance.passive:
            continue
        if instance.gpu is None or not session.on_gpu:
            yield RunPlace(instance.name, session, session.providers[0])
            continue
        laned = open_lanes(
            session,
            config,
            name=instance.name,
            gpu=instance.gpu,
            reopen=partial(reopen, instance, opened, graphs=False),
        )
        opened.callback(laned.close)
        notes |= dict.fromkeys((*session.notes, *laned.notes))
        for lane in laned.lanes:
            yield RunPlace(instance.name, lane, session.providers[0])
