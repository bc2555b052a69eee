"""What the ModelConfig RPC shows: the message with the choices that the runtime made filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.messages import Message, new_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import InstanceGroup

RUNTIME_PREFIX = "naiad.runtime."
"""Parameters that the server reports, for example `naiad.runtime.execution_providers`; never read."""

WEIGHTS = RUNTIME_PREFIX + "weights"
"""The digest of an embedder's weights; read where another Naiad runs the model."""

EMBEDDING_SPACE = RUNTIME_PREFIX + "embedding_space"
"""The space of an embedder's vectors; never read: who prepares faces itself makes it of the weights."""


def with_instances(
    message: Message, groups: Sequence[InstanceGroup], parameters: Mapping[str, str] | None = None
) -> Message:
    """A copy of `message` that names the instance groups that really run.

    Args:
        message: the normalised and completed message; it is not changed.
        groups: the groups the runtime chose. One that has the name of a group in the message keeps that
            group's other fields.
        parameters: added to the message's parameters, for example what ran where.
    """
    view = new_message()
    view.CopyFrom(message)
    del view.instance_group[:]
    configured = {group.name: group for group in message.instance_group}
    for group in groups:
        entry = view.instance_group.add()
        if group.name in configured:
            entry.CopyFrom(configured[group.name])
        entry.name = group.name
        entry.count = group.count
        entry.kind = entry.Kind.Value(group.kind.value)
        entry.gpus[:] = group.gpus
    for key, value in (parameters or {}).items():
        view.parameters[key].string_value = value
    return view
