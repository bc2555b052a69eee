"""What a load has changed, read off the index and the config before and after it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonclient.grpc import model_config_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from naiad.cli.model_calls import Line

_READY = "READY"


def list_changes(before: Mapping[int, Line], after: Mapping[int, Line], old: Any, new: Any) -> list[str]:
    """A sentence for each difference; empty if there is none to see.

    Args:
        before: the model's lines of the index by version, before the load.
        after: and after it.
        old: the `ModelConfig` message of the version that answered; None if none did.
        new: and of the one that answers now.
    """
    was = {number for number, line in before.items() if line.state == _READY}
    now = {number for number, line in after.items() if line.state == _READY}
    changes = [f"version {number} serves now" for number in sorted(now - was)]
    changes += [f"version {number} serves no longer" for number in sorted(was - now)]
    if old is not None and new is not None:
        changes += _config_changes(old, new)
    return changes


def _config_changes(old: Any, new: Any) -> list[str]:
    changes = []
    if old.max_batch_size != new.max_batch_size:
        changes.append(f"max_batch_size is {new.max_batch_size}, was {old.max_batch_size}")
    changes += _tensor_changes("input", old.input, new.input)
    changes += _tensor_changes("output", old.output, new.output)
    named = {"max_batch_size", "input", "output"}
    others = sorted(
        field.name
        for field in new.DESCRIPTOR.fields
        if field.name not in named and getattr(old, field.name) != getattr(new, field.name)
    )
    return changes + ([f"the config differs in {', '.join(others)}"] if others else [])


def _tensor_changes(what: str, old: Iterable[Any], new: Iterable[Any]) -> list[str]:
    was = {tensor.name: _text(tensor) for tensor in old}
    now = {tensor.name: _text(tensor) for tensor in new}
    changes = [f"{what} '{name}' is {text}" for name, text in now.items() if name not in was]
    changes += [f"{what} '{name}' is gone" for name in was if name not in now]
    changes += [
        f"{what} '{name}' is {text}, was {was[name]}"
        for name, text in now.items()
        if name in was and was[name] != text
    ]
    return changes


def _text(tensor: Any) -> str:
    return f"{pb.DataType.Name(tensor.data_type)} [{','.join(map(str, tensor.dims))}]"
