"""`experiment.json`: which versions of a model answer whom, which is shadowed, what decides. Pure.

The models are the schema: `ExperimentConfig.model_json_schema()` publishes every field's bounds and units.
`experiment_reader` reads them from a model's folder and words what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_VERSIONS = 16
MAX_KEYS = 100_000
MAX_KEY_CHARACTERS = 256
MAX_NAME_CHARACTERS = 128
MAX_RAMP_STEPS = 1_000
MAX_VERSION = 2**63 - 1
MAX_WEIGHT = 1e9
MAX_REQUESTS = 10**12
DIGEST_BYTES = 8

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_VERSION_KEYS: dict[str, Any] = {"propertyNames": {"pattern": f"^({_DECIMAL.pattern})$"}}


def _version_key(value: Any) -> Any:
    """A version as a JSON object's key spells it; what is no text is left to pydantic."""
    if not isinstance(value, str):
        return value
    if not _DECIMAL.fullmatch(value) or int(value) > MAX_VERSION:
        raise ValueError(f'it must be a version\'s number, such as "2", from 0 to {MAX_VERSION}')
    return int(value)


def _instant(value: Any) -> Any:
    """A time of RFC 3339 in UTC.

    Raises:
        ValueError: it is none, or has no time zone.
    """
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(instant, datetime) and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):  # no time, or one that is outside of the calendar in UTC
        pass
    raise ValueError('it must be a time with its time zone, such as "2026-12-01T10:00:00Z"')


Version = Annotated[int, Field(ge=0, le=MAX_VERSION)]
VersionKey = Annotated[Version, BeforeValidator(_version_key)]
Weight = Annotated[float, Field(ge=0, le=MAX_WEIGHT, allow_inf_nan=False)]
Weights = Annotated[dict[VersionKey, Weight], Field(json_schema_extra=_VERSION_KEYS)]
Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARACTERS)]
Keys = Annotated[tuple[Key, ...], Field(strict=False)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]
NormRatio = Annotated[float, Field(ge=1, le=1_000, allow_inf_nan=False)]
Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Alpha = Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)]
Requests = Annotated[int, Field(ge=1, le=MAX_REQUESTS)]
Cpus = Annotated[float, Field(gt=0, le=64, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=10**7, allow_inf_nan=False)]


class _Part(BaseModel):
    """A JSON object whose fields are all known and whose values are of their own type, never converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class RampStep(_Part):
    """From a time on, other weights."""

    at: Instant = Field(description="When, with a time zone (RFC 3339). Servers agree if their clocks do.")
    weights: Weights = Field(description="The weights from then on: all of them, not the changed ones alone.")

    @cached_property
    def at_s(self) -> float:
        """`at` in seconds since 1970, as `time.time()` counts."""
        return self.at.timestamp()


class ShadowConfig(_Part):
    """A version that is sent copies of the baseline's requests and answers nobody."""

    version: Version = Field(description="The version that is shadowed.")
    share: Share = Field(
        default=1.0, description="The part of the baseline's requests that is copied, above 0 to 1."
    )
    budget: Cpus = Field(
        default=0.5, description="How much computing it may take, in CPUs: 0.5 is half of one core's time."
    )
    keep_worst: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0,
        description="How many requests on which the two versions differ most are kept on disk with their "
        "inputs, for a replay; 0 keeps none. Needs the server's --experiment-directory.",
    )


class GuardConfig(_Part):
    """The limits that a candidate must stay within; null switches a check off."""

    max_error_rate_increase: Rate | None = Field(
        default=0.01, description="Failed requests as a part of all: the most above the baseline's, 0 to 1."
    )
    max_latency_ratio: Ratio | None = Field(
        default=1.2,
        description="Typical latency (geometric mean): the most, as a multiple of the baseline's.",
    )
    max_empty_rate_increase: Rate | None = Field(
        default=0.05,
        description="Detectors: answers without a face, the most above the baseline's part, 0 to 1.",
    )
    max_detections_drop: Rate | None = Field(
        default=0.05,
        description="Detectors: faces a picture, the most that may be lost of the baseline's, 0 to 1.",
    )
    max_missed_rate: Rate | None = Field(
        default=0.05,
        description="Shadow, detectors: the part of the baseline's faces that are not found, 0 to 1.",
    )
    max_extra_rate: Rate | None = Field(
        default=0.05,
        description="Shadow, detectors: the part of the faces that the baseline does not find, 0 to 1.",
    )
    max_score_shift: Rate | None = Field(
        default=0.1, description="Detectors: how far the mean score may move, up or down, 0 to 1."
    )
    max_norm_ratio: NormRatio | None = Field(
        default=1.2,
        description="Embedders: the mean length of vectors, the most times longer or shorter, from 1.",
    )
    min_cosine: Cosine | None = Field(
        default=None,
        description="Shadow, embedders: the least mean cosine of the two versions' vectors, -1 to 1. Leave "
        "it null unless both embed into the same space.",
    )
    max_mismatch_rate: Rate | None = Field(
        default=0.01,
        description="Shadow, plain tensors: the part of the values beyond the tolerance, 0 to 1.",
    )
    alpha: Alpha = Field(
        default=0.05,
        description="How likely the whole guard may be wrong about a good candidate, over all time.",
    )
    min_requests: Requests = Field(
        default=100, description="Requests that a candidate must have answered before anything is decided."
    )
    promote_after: Requests | None = Field(
        default=None,
        description="Answered requests after which a candidate within all its limits answers everybody; null "
        "for never.",
    )
    cooldown_s: Seconds = Field(
        default=600.0,
        description="Seconds after a decision on the model in which no candidate is promoted; a "
        "roll-back waits for nothing.",
    )
    dry_run: bool = Field(default=False, description="Decisions are recorded and not carried out.")

    @model_validator(mode="after")
    def _check_promotion(self) -> Self:
        after, least = self.promote_after, self.min_requests
        if after is not None and after < least:
            raise ValueError(f"promote_after is {after}, it must be min_requests, {least}, or more")
        return self


def _lowest_version(values: Mapping[str, Any]) -> int:
    """The baseline where none is named.

    Raises:
        ValueError: no version is named but the shadow's.
    """
    named = _named(values.get("weights", {}), values.get("keys", {}), values.get("ramp", ()))
    return min(named, default=-1)


def _named(
    weights: Mapping[int, float], keys: Mapping[int, tuple[str, ...]], ramp: Iterable[RampStep]
) -> set[int]:
    """The versions that callers may get an answer of, the baseline's aside."""
    return {*weights, *keys, *(version for step in ramp for version in step.weights)}


def _complete_schema(schema: dict[str, Any]) -> None:
    """What the fields by themselves do not say."""
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["anyOf"] = [{"required": ["weights"]}, {"required": ["shadow"]}]
    schema["properties"]["$schema"] = {"type": "string", "description": "For editors; not read."}


class ExperimentConfig(_Part):
    """An experiment on the versions of one model: the content of `experiment.json`."""

    model_config = ConfigDict(
        title="experiment.json",
        json_schema_extra=_complete_schema,
    )

    name: Annotated[
        str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")
    ] = Field(
        default="experiment",
        description="Goes into the hash of each key, so that two experiments part callers differently. "
        "The model's name where it is left out.",
    )
    weights: Weights = Field(
        default_factory=dict,
        description="How much each version gets of what the server chooses, 0 or more on any scale; a "
        "version that is not named gets nothing, and one of weight 0 keeps its place for later.",
    )
    keys: Annotated[dict[VersionKey, Keys], Field(json_schema_extra=_VERSION_KEYS)] = Field(
        default_factory=dict,
        description=f"Keys of callers that always get that version, at most {MAX_KEYS} in all.",
    )
    ramp: Annotated[tuple[RampStep, ...], Field(strict=False, max_length=MAX_RAMP_STEPS)] = Field(
        default=(), description="Other weights from given times on, the earliest first."
    )
    shadow: ShadowConfig | None = Field(
        default=None, description="A version that is sent copies of requests and answers nobody."
    )
    guard: GuardConfig | None = Field(
        default=None,
        description="When a candidate is withdrawn or promoted; without it, that is only reported on.",
    )
    # Last, as its default is made of the fields above.
    baseline: Version = Field(
        default_factory=_lowest_version,
        description="The version that is compared with; the lowest version of weights, keys and ramp where "
        "it is left out.",
    )

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every other version than the baseline, ascending; one that is only shadowed is among them."""
        return tuple(version for version in self.versions if version != self.baseline)

    @property
    def shadow_version(self) -> int | None:
        """The version that is shadowed, None without a shadow."""
        return None if self.shadow is None else self.shadow.version

    @cached_property
    def versions(self) -> tuple[int, ...]:
        """Every version that is named, ascending: the baseline, the candidates, the shadow's."""
        shadowed = () if self.shadow is None else (self.shadow.version,)
        return tuple(sorted({*self.answering, *shadowed}))

    @cached_property
    def answering(self) -> tuple[int, ...]:
        """The versions that may answer a caller, ascending: all but one that is only shadowed."""
        return tuple(sorted({self.baseline, *_named(self.weights, self.keys, self.ramp)}))

    @cached_property
    def listed(self) -> Mapping[str, int]:
        """The version of each key that is listed in `keys`."""
        return {key: version for version, keys in self.keys.items() for key in keys}

    @cached_property
    def digest(self) -> str:
        """A short hash, as hex, of all that is said: equal for files that mean the same, on every machine.

        The order of fields and versions and the defaults that are written out do not count, so that a later
        release with further fields gives the same one.
        """
        said = self.model_dump(mode="json", exclude_defaults=True) | {"baseline": self.baseline}
        said["keys"] = {version: sorted(keys) for version, keys in said.get("keys", {}).items()}
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()

    def weights_at(self, now_s: float) -> Mapping[int, float]:
        """The weights in force at `now_s`, in seconds since 1970; where none are, all is the baseline's."""
        weights = next((step.weights for step in reversed(self.ramp) if step.at_s <= now_s), self.weights)
        return weights or {self.baseline: 1.0}

    def next_change(self, now_s: float) -> float | None:
        """When the next step of the ramp is due, in seconds since 1970; None if there is none left."""
        return next((step.at_s for step in self.ramp if step.at_s > now_s), None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterable[str]:
        """What contradicts itself, the plainest first."""
        if not self.weights and self.shadow is None:
            yield "it has neither weights nor shadow: give the versions' weights, or a version to shadow"
        if self.baseline < 0:
            yield (
                "baseline is missing, and no version is named but the shadow's: name the version that serves"
            )
        yield from self._bad_weights()
        yield from self._bad_ramp()
        yield from self._bad_keys()
        if self.shadow is not None and self.shadow.version == self.baseline:
            yield f"shadow.version is {self.baseline}, the baseline: it must be another version"
        if len(self.versions) > MAX_VERSIONS:
            yield f"it names {len(self.versions)} versions, the limit is {MAX_VERSIONS}"
        if self.guard is not None and not self.candidates:
            yield f"guard has no candidate to judge: only the baseline, {self.baseline}, is named"

    def _bad_weights(self) -> Iterable[str]:
        if self.weights and not any(self.weights.values()):
            yield "weights are all 0: one of them must be above 0"
        for index, step in enumerate(self.ramp):
            if not any(step.weights.values()):
                yield f"ramp[{index}].weights are all 0: one of them must be above 0"

    def _bad_ramp(self) -> Iterable[str]:
        for index in range(1, len(self.ramp)):
            before, at = self.ramp[index - 1].at, self.ramp[index].at
            if at <= before:
                yield (
                    f"ramp[{index}].at is {at.isoformat()}, it must be later than ramp[{index - 1}].at, "
                    f"{before.isoformat()}"
                )

    def _bad_keys(self) -> Iterable[str]:
        count = sum(map(len, self.keys.values()))
        if count > MAX_KEYS:
            yield f"keys lists {count} keys, the limit is {MAX_KEYS}"
        known = {self.baseline, *_named(self.weights, {}, self.ramp)}
        for version in sorted(set(self.keys) - known):
            yield f"keys.{version} names a version that is neither the baseline nor in weights or ramp"
        owners: dict[str, int] = {}
        for version, keys in self.keys.items():
            for key in keys:
                if owners.setdefault(key, version) != version:
                    yield f"keys lists {key!r} for versions {owners[key]} and {version}: choose one"
