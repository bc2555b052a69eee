"""constraints.txt: plain pins, one a package, that satisfy what pyproject.toml asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from pathlib import Path

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!+]*")
# They replace the engine of `cpu`, so one environment, and one resolution, cannot hold both.
OTHER_ENGINES = {"gpu", "openvino", "tensorrt"}


@pytest.fixture(scope="module")
def lines(root: Path) -> list[str]:
    """The lines of constraints.txt that are no comment."""
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def pins(lines: list[str]) -> dict[str, Version]:
    """Normalised package name to pinned version."""
    return {
        canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)
    }


def test_each_line_is_a_name_and_a_version(lines: list[str]) -> None:
    """No address, hash, local path or option: the file means the same on every machine."""
    assert [line for line in lines if not PIN.fullmatch(line)] == []


def test_each_package_is_pinned_once(lines: list[str], pins: dict[str, Version]) -> None:
    """Two pins of one name would contradict each other under another spelling."""
    assert len(lines) == len(pins) > 0
    assert "naiad" not in pins


def test_pins_satisfy_every_range_of_pyproject(pyproject: dict[str, Any], pins: dict[str, Version]) -> None:
    """Each direct dependency is pinned, inside its range: a fresh install resolves as written."""
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *pyproject["build-system"]["requires"]]
    texts += [text for extra, listed in extras.items() if extra not in OTHER_ENGINES for text in listed]
    requirements = [requirement for requirement in map(Requirement, texts) if requirement.name != "naiad"]
    missing = [str(r) for r in requirements if canonicalize_name(r.name) not in pins]
    assert missing == []
    outside = [str(r) for r in requirements if pins[canonicalize_name(r.name)] not in r.specifier]
    assert outside == []
