"""The files under docker/, read as their tests need them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
TARGETS = ("cpu", "cuda", "tensorrt")


def load_yaml(path: Path) -> list[Any]:
    """The documents of a YAML file; skips the test where no reader of YAML is installed."""
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Stage:
    """One `FROM`: its base and the instructions after it, each with its arguments on one line."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Dockerfile:
    """The arguments before the first stage, with their defaults, and the stages by name, in order."""

    arguments: dict[str, str]
    stages: dict[str, Stage]

    @classmethod
    def read(cls, path: Path = DOCKER / "Dockerfile") -> Dockerfile:
        """Parse a Dockerfile that has no heredocs and names every stage."""
        arguments: dict[str, str] = {}
        stages: dict[str, Stage] = {}
        stage = None
        for keyword, rest in _instructions(path.read_text(encoding="utf-8")):
            if keyword == "FROM":
                base, _, name = rest.partition(" AS ")
                stage = stages[name] = Stage(name, base)
            elif stage is None:
                name, _, arguments[name] = rest.partition("=")
            else:
                stage.instructions.append((keyword, rest))
        return cls(arguments, stages)

    def all_of(self, target: str) -> list[tuple[str, str]]:
        """The instructions that make a target, those of the stages below it first."""
        stage = self.stages.get(target)
        return [] if stage is None else [*self.all_of(stage.base), *stage.instructions]

    def last(self, target: str, keyword: str) -> str:
        """The arguments of the instruction that counts, the last of its kind."""
        return [rest for each, rest in self.all_of(target) if each == keyword][-1]

    def environment(self, target: str) -> dict[str, str]:
        """The variables that a target sets."""
        texts = [rest for keyword, rest in self.all_of(target) if keyword == "ENV"]
        return {name: value.strip('"') for name, value in re.findall(r"(\w+)=(\S+)", " ".join(texts))}


def exec_form(arguments: str) -> list[str]:
    """The words of an instruction in exec form, `["a", "b"]`; ValueError if it is in shell form."""
    words: list[str] = json.loads(arguments)
    return words


def sources(rest: str) -> list[str]:
    """What a COPY without --from takes from the context."""
    return [] if "--from=" in rest else rest.split()[:-1]


def mounts(rest: str) -> list[dict[str, str]]:
    """The options of each `--mount` of a RUN."""
    return [
        dict(part.split("=", 1) for part in text.split(",")) for text in re.findall(r"--mount=(\S+)", rest)
    ]


def is_sent(path: str, patterns: Sequence[str]) -> bool:
    """Whether a `.dockerignore` of these lines lets a file into the build; the last line that fits decides."""
    sent = True
    for pattern in patterns:
        words = re.escape(pattern.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{words}(?:/.*)?", path):
            sent = pattern.startswith("!")
    return sent


def ignore_patterns() -> list[str]:
    """The lines of .dockerignore that say something."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Keyword and arguments of each instruction, continued lines joined, comments left out."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", kept).splitlines():
        if line.strip():
            keyword, _, rest = line.strip().partition(" ")
            yield keyword.upper(), rest.strip()
