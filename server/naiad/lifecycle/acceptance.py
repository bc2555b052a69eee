"""What a loaded version must hold to before it takes the place of one that serves. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.runtime_keys import ALLOW_INTERFACE_CHANGE, ALLOW_NOT_FINITE, is_switched_on
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.runtime.warmup import WarmupReport


def check_interface(
    version: int, config: ModelConfig, *, serving: int, served: ModelConfig, allowed: bool
) -> str:
    """Refuse a new version that callers of the one that serves would be surprised by.

    Args:
        version: the new version's number.
        config: its config, complete.
        serving: the version that serves.
        served: that one's config, complete.
        allowed: whether the server allows it.

    Returns:
        How they differ if that is allowed, else "".

    Raises:
        InvalidArgumentError: they differ and may not; names each difference and how to allow it.
    """
    differences = "; ".join(list_differences(config, served))
    if not differences or allowed or is_switched_on(config, ALLOW_INTERFACE_CHANGE):
        return differences
    raise InvalidArgumentError(
        f"version {version} of model '{config.name}' has another interface than version {serving}, which "
        f"serves: {differences}. Requests that name no version would meet it. To allow it set the parameter "
        f"{ALLOW_INTERFACE_CHANGE} to true in config.pbtxt, or start with --allow-interface-change"
    )


def list_differences(new: ModelConfig, old: ModelConfig) -> tuple[str, ...]:
    """How what callers send and get would change, a clause each; empty if it would not.

    Names, datatypes, dims and whether an input may be left out count, in any order, and batches that become
    smaller. Both configs are complete.
    """
    found = [
        *_differences("input", new.inputs, old.inputs),
        *_differences("output", new.outputs, old.outputs),
    ]
    if new.max_batch_size < old.max_batch_size:
        found.append(f"max_batch_size is {new.max_batch_size}, was {old.max_batch_size}")
    return tuple(found)


def _differences(what: str, new: Sequence[TensorConfig], old: Sequence[TensorConfig]) -> list[str]:
    now = {tensor.name: tensor for tensor in new}
    was = {tensor.name: tensor for tensor in old}
    found = [f"{what} '{name}' is missing" for name in was if name not in now]
    found += [f"{what} '{name}' is new" for name in now if name not in was]
    for name in was.keys() & now.keys():
        found += [f"{what} '{name}' {difference}" for difference in _changes(now[name], was[name])]
    return sorted(found)


def _changes(now: TensorConfig, was: TensorConfig) -> list[str]:
    found = []
    if now.datatype is not was.datatype:
        found.append(f"is {now.datatype.config_name}, was {was.datatype.config_name}")
    if now.dims != was.dims:
        found.append(f"has dims {_dims(now)}, had {_dims(was)}")
    if now.optional != was.optional:
        found.append("may be left out now" if now.optional else "may not be left out any more")
    return found


def _dims(tensor: TensorConfig) -> str:
    return f"[{','.join(map(str, tensor.dims))}]"


def check_finite(
    version: int, config: ModelConfig, warmup: WarmupReport, *, serving: Mapping[int, WarmupReport]
) -> str:
    """Refuse a version that answers the warm-up's samples with NaN or infinity where one that serves did not.

    Some graphs honestly answer zeros so; then the one that serves does too, or there is none.

    Args:
        version: its number.
        config: its config, complete.
        warmup: what it answered.
        serving: what the versions that serve answered when they were loaded.

    Returns:
        What is not finite if that is no reason to refuse it, else "".

    Raises:
        InvalidArgumentError: names sample, outputs and the version that answers better.
    """
    for run in warmup.outcomes:
        for other, report in sorted(serving.items(), reverse=True):
            was_finite = any(each.sample == run.sample and not each.not_finite for each in report.outcomes)
            if run.not_finite and was_finite and not is_switched_on(config, ALLOW_NOT_FINITE):
                raise InvalidArgumentError(
                    f"version {version} of model '{config.name}' answers the warm-up with {run.label} with "
                    f"NaN or infinity in {_quoted(run.not_finite)}, version {other}, which serves, did not. "
                    f"To allow it set the parameter {ALLOW_NOT_FINITE} to true in config.pbtxt"
                )
    worst = [f"{run.label}: {_quoted(run.not_finite)}" for run in warmup.outcomes if run.not_finite]
    return "; ".join(worst)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
