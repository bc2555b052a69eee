"""Which of the version folders that are there should be loaded. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.config.model_config import VersionPolicyKind
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Collection

    from naiad.config.model_config import VersionPolicy


@dataclass(frozen=True, slots=True)
class VersionSelection:
    """`selected` versions are to be loaded; `missing` ones are asked for by name and not there. Ascending."""

    selected: tuple[int, ...]
    missing: tuple[int, ...] = ()


def select_versions(
    policy: VersionPolicy,
    present: Collection[int],
    *,
    model_name: str,
    experiment: Collection[int] = (),
) -> VersionSelection:
    """The versions that the policy wants of those present, and those that an experiment is on.

    Args:
        policy: of the model's config.
        present: the numbers of the version folders.
        model_name: for the error.
        experiment: the versions of the model's experiment; empty without one.

    Raises:
        InvalidArgumentError: the policy selects nothing.
    """
    ascending = sorted(set(present))
    missing: list[int] = []
    if policy.kind is VersionPolicyKind.SPECIFIC:
        selected = [version for version in ascending if version in policy.versions]
        missing = sorted(set(policy.versions) - set(ascending))
    elif policy.kind is VersionPolicyKind.LATEST:
        selected = ascending[max(0, len(ascending) - policy.num_versions) :]
    else:
        selected = ascending
    selected = sorted({*selected, *(version for version in experiment if version in ascending)})
    missing = sorted({*missing, *(set(experiment) - set(ascending))})
    if not selected:
        raise InvalidArgumentError(
            f"at least one version must be available under the version policy of model '{model_name}'"
        )
    return VersionSelection(tuple(selected), tuple(missing))
