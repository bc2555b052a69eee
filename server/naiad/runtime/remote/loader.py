"""Loads a model version that another server runs: its description, the completed config, instances, warm-up.

Synchronous: it runs in a loader's thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from naiad.config.model_config import InstanceGroup, InstanceKind
from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError, UnsupportedError
from naiad.runtime.layout import Instance, InstanceLayout
from naiad.runtime.loaded import LoadedVersion
from naiad.runtime.remote.model import describe, missing_hosts
from naiad.runtime.remote.session import RemoteSession
from naiad.runtime.remote.shared import try_sharing
from naiad.runtime.warmup import WarmupReport
from naiad.runtime.warmup_all import warm_up_all
from naiad.runtime.warmup_samples import prepare_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.loader import CompleteConfig
    from naiad.runtime.remote.fleet import Fleet
    from naiad.runtime.remote.model import RemoteModel

PROVIDER = "triton"
"""What stands where a local session names its execution provider."""

DEFAULT_INSTANCES = 8


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """Servers that run the models, and how many calls a model makes at once where its config does not say."""

    fleet: Fleet
    instances: int = DEFAULT_INSTANCES

    def find_versions(self, name: str) -> Sequence[int]:
        """The versions of a model that are ready there.

        Raises:
            UnavailableError: none is, or no server is there.
        """
        return describe(self.fleet, name, "").versions


def load_remote_version(
    config: ModelConfig, version: int, *, engine: RemoteEngine, complete: CompleteConfig
) -> LoadedVersion:
    """A version that the engine runs, warm.

    Args:
        config: as read from the repository, not yet completed.
        version: its number, here and there.
        engine: who runs it.
        complete: completes the config from what the engine says of the model.

    Raises:
        UnavailableError: the engine is not there, or does not have the model ready.
        InvalidArgumentError: config and engine do not say the same of the model.
        UnsupportedError: a model of sequences, or with several answers to a request.
    """
    try:
        remote = describe(engine.fleet, config.name, str(version))
    except NotFoundError as error:
        raise UnavailableError(error.message) from None  # it may come there: nothing is wrong here
    return open_remote_version(config, remote, engine=engine, complete=complete)


def open_remote_version(
    config: ModelConfig,
    remote: RemoteModel,
    *,
    engine: RemoteEngine,
    complete: CompleteConfig,
    warm: bool = True,
) -> LoadedVersion:
    """The same for a model that was described already; without `warm` nothing is run yet.

    Raises:
        InvalidArgumentError: config and engine do not say the same of the model.
        UnsupportedError: a model of sequences, or with several answers to a request.
    """
    completed = complete(
        _with_batches(config, remote), remote.inputs, remote.outputs, optional_inputs=remote.optional_inputs
    )
    check_served(completed, remote)
    layout = _layout(completed, engine)
    completed = replace(completed, instance_groups=layout.groups)
    session = RemoteSession(engine.fleet, remote)
    warmup = WarmupReport(runs=())
    if warm:
        warmup = warm_up_all([session], completed, prepare_samples(completed))
    for host in engine.fleet.hosts:
        try_sharing(host)
    names = layout.active
    return LoadedVersion(
        config=completed,
        sessions=(session,) * len(names),
        instance_names=names,
        instance_providers=(PROVIDER,) * len(names),
        execution_providers=(PROVIDER,),
        fallbacks=(),
        notes=(*_notes(engine, remote), *warmup.warnings, *warmup.skipped),
        layout=layout,
        warmup=warmup,
        weights=remote.weights,
    )


def _with_batches(config: ModelConfig, remote: RemoteModel) -> ModelConfig:
    """The config with the engine's `max_batch_size` if it says nothing of batches itself."""
    if config.max_batch_size or config.inputs or not remote.max_batch_size or config.message is None:
        return config
    message = type(config.message)()
    message.CopyFrom(config.message)
    message.max_batch_size = remote.max_batch_size
    return replace(config, max_batch_size=remote.max_batch_size, message=message)


def check_served(config: ModelConfig, remote: RemoteModel) -> None:
    """Refuse what cannot be served by calls of one request and one answer each.

    Raises:
        InvalidArgumentError: the config allows larger batches than the engine.
        UnsupportedError: a model of sequences, or with several answers to a request.
    """
    if remote.has_sequences or config.sequence_batching is not None:
        raise UnsupportedError(
            f"model '{config.name}' has sequence_batching: requests of a sequence must reach one server, "
            "so ask that itself"
        )
    if remote.is_decoupled:
        raise UnsupportedError(f"model '{config.name}' may answer several times on the engine (decoupled)")
    if bool(config.max_batch_size) != bool(remote.max_batch_size) or (
        config.max_batch_size > remote.max_batch_size
    ):
        raise InvalidArgumentError(
            f"max_batch_size of model '{config.name}' is {config.max_batch_size}, the engine's is "
            f"{remote.max_batch_size}"
        )


def _layout(config: ModelConfig, engine: RemoteEngine) -> InstanceLayout:
    """Instances that are calls under way: what the config says for each server, else the engine's number."""
    hosts = len(engine.fleet.hosts)
    counts = [
        max(1, group.count) * max(1, len(group.gpus)) * hosts
        for group in config.instance_groups
        if not group.passive and group.count
    ]
    named = sum(counts)
    count = named or engine.instances
    group = InstanceGroup(config.name, InstanceKind.MODEL, count)
    each = f", for each of {hosts} servers" if hosts > 1 else ""
    return InstanceLayout(
        groups=(group,),
        instances=tuple(Instance(f"{config.name}_{index}", None) for index in range(count)),
        intra_op_threads=1,
        inter_op_threads=1,
        notes=(),
        reason=f"config: its instance_group counts calls to the engine{each}"
        if named
        else "engine: --engine-instances calls at once",
    )


def _notes(engine: RemoteEngine, remote: RemoteModel) -> Iterator[str]:
    for address, transport in engine.fleet.transports().items():
        yield f"tensors go to Triton at {address} by {transport}"
    hosts: Sequence[str] = [host.address for host in engine.fleet.hosts]
    if len(hosts) > 1:
        for address, reason in missing_hosts(engine.fleet, remote.name, remote.version).items():
            yield f"Triton at {address} does not serve it now: {reason}"
