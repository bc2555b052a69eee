"""Who asks: what keeps a caller with one version of an experiment."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEY_LENGTH = 1_024
"""Characters of a key: it is hashed for each request."""

MAX_PINS = 64
"""Models whose version one stream holds on to; more than that are chosen by their keys alone."""

_MAX_VERSION = 2**63 - 1


class SequenceStep(NamedTuple):
    """A request's place in its sequence, which never changes its version on the way."""

    id: int | str
    starts: bool = False
    ends: bool = False


class Caller:
    """What a request, or a stream of requests, brings along that decides which version answers.

    `key` is the same for the same caller; None draws a version for each request. `is_named` says that the
    call's metadata brought it, so that no request of the call brings another one. `versions` are those named
    by the call's metadata, by model; the name "" stands for every model. `pins` are the versions that a
    stream has been given, by model; None for what is no stream.
    """

    __slots__ = ("holds_on", "is_named", "is_withdrawn", "key", "pins", "sequence", "versions")

    def __init__(
        self,
        key: str | None = None,
        *,
        versions: Mapping[str, int] | None = None,
        pins: dict[str, int] | None = None,
        sequence: SequenceStep | None = None,
        is_named: bool = False,
    ) -> None:
        self.key = key
        self.is_named = is_named
        self.versions = versions
        self.pins = pins
        self.sequence = sequence
        self.holds_on = False
        """Of a stream that can be asked to come anew: it would rather end than change its version."""
        self.is_withdrawn = False
        """Of such a stream: a version that it was given has been rolled back since."""

    def version_of(self, model: str) -> int | None:
        """The version that the call's metadata names for a model; None leaves the choice to the server."""
        if self.versions is None:
            return None
        return self.versions.get(model, self.versions.get(""))

    def of_request(self, *, key: str | None = None, sequence: SequenceStep | None = None) -> Caller:
        """The same caller with what one request of the call brings.

        The call's own key goes before the request's, the request's before its sequence, that before the
        stream that it came by.
        """
        if key is None and sequence is None:
            return self
        if self.is_named:
            return Caller(self.key, versions=self.versions, pins=self.pins, sequence=sequence, is_named=True)
        own = f"sequence {sequence.id}" if key is None and sequence is not None else key
        return Caller(own, versions=self.versions, sequence=sequence)


NOBODY = Caller()
"""Who says nothing about itself."""

ONLOOKER = Caller()
"""Who asks about a model and sends it nothing: it is shown the baseline, the same each time."""

CALLER: ContextVar[Caller] = ContextVar("naiad_caller", default=NOBODY)
"""Who asks, in the tasks that work on a call. Read where a model has an experiment, and nowhere else."""


def check_key(key: str, source: str) -> str:
    """The key, if it is none too long.

    Args:
        key: what keeps a caller with a version.
        source: where it came from, for the error.

    Raises:
        InvalidArgumentError: it has more than `MAX_KEY_LENGTH` characters.
    """
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidArgumentError(f"{source} has {len(key)} characters, the limit is {MAX_KEY_LENGTH}")
    return key


def parse_versions(text: str, source: str) -> dict[str, int]:
    """Versions by model, of `2`, which stands for every model, or `NAME=2`, or several with commas between.

    Raises:
        InvalidArgumentError: a part is neither, or there are two for one model.
    """
    versions: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.strip().rpartition("=")
        if not (number.isascii() and number.isdecimal() and 0 < int(number[:20]) <= _MAX_VERSION):
            raise InvalidArgumentError(f"{source} is '{text}', it must be a version such as 2, or NAME=2")
        if name in versions:
            raise InvalidArgumentError(f"{source} is '{text}', which names two versions for one model")
        versions[name] = int(number)
    return versions
