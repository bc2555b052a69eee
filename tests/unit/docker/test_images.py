"""docker/Dockerfile: what an engine would build, held against the tree, the extras, the pins and the settings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from support.images import (
    DOCKER,
    ROOT,
    TARGETS,
    Dockerfile,
    exec_form,
    ignore_patterns,
    is_sent,
    mounts,
    sources,
)

from naiad.cli.health import read_question
from naiad.cli.main import app
from naiad.config.server_config import ServerConfig, environment_name

if TYPE_CHECKING:
    from pathlib import Path

EXTRAS = {"cpu": {"cpu"}, "cuda": {"gpu"}, "tensorrt": {"gpu", "tensorrt"}}
"""What brings the engine of each target."""


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return Dockerfile.read()


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, Version]:
    """Package to version, of a file of constraints."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def test_there_is_an_image_for_each_engine(dockerfile: Dockerfile) -> None:
    assert set(TARGETS) <= set(dockerfile.stages)
    assert list(dockerfile.stages)[-1] == "cpu", "the one that is built where no target is named"


def test_what_is_copied_or_mounted_exists_and_is_sent_to_the_builder(dockerfile: Dockerfile) -> None:
    instructions = [each for stage in dockerfile.stages.values() for each in stage.instructions]
    taken = {source for keyword, rest in instructions if keyword == "COPY" for source in sources(rest)}
    taken |= {
        mount["source"]
        for keyword, rest in instructions
        if keyword == "RUN"
        for mount in mounts(rest)
        if "from" not in mount
    }
    assert len(taken) > 5
    for source in taken:
        assert (ROOT / source).exists(), source
        assert is_sent(source, ignore_patterns()), source


def test_every_stage_that_is_named_stands_before(dockerfile: Dockerfile) -> None:
    seen: set[str] = set()
    for stage in dockerfile.stages.values():
        named = {mount["from"] for _, rest in stage.instructions for mount in mounts(rest) if "from" in mount}
        assert named <= seen
        assert stage.base in seen | {"${PYTHON_IMAGE}"}
        seen.add(stage.name)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("pyproject.toml", True),
        ("server/naiad/app/server.py", True),
        ("model_repository/yunet/config.pbtxt", True),
        ("model_repository/yunet/1/model.onnx", False),
        ("server/naiad/__pycache__/app.cpython-311.pyc", False),
        (".git/config", False),
        (".venv/bin/python", False),
        ("docker/compose.yaml", False),
        ("docker/constraints-gpu.txt", True),
        ("tests/conftest.py", False),
    ],
)
def test_nothing_else_is_sent_to_the_builder(path: str, *, sent: bool) -> None:
    assert is_sent(path, ignore_patterns()) is sent


def test_the_base_is_a_pinned_python_that_naiad_supports(
    dockerfile: Dockerfile, pyproject: dict[str, Any]
) -> None:
    image = re.fullmatch(
        r"python:(\d+\.\d+)(?:\.\d+)?-slim-\w+(?:@sha256:[0-9a-f]{64})?",
        dockerfile.arguments["PYTHON_IMAGE"],
    )
    assert image is not None
    assert Version(image[1]) in SpecifierSet(pyproject["project"]["requires-python"])


@pytest.mark.parametrize("target", TARGETS)
def test_it_does_not_run_as_root_and_says_who_by_number(dockerfile: Dockerfile, target: str) -> None:
    """Kubernetes' runAsNonRoot can judge a number only."""
    user, group = dockerfile.last(target, "USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    created = [rest for keyword, rest in dockerfile.all_of(target) if keyword == "RUN" and "useradd" in rest]
    assert f"useradd --uid {user} " in created[0]
    assert f"groupadd --gid {group} " in created[0]
    assert dockerfile.all_of(target)[-1][0] == "USER", "nothing runs as that user while the image is made"


@pytest.mark.parametrize("target", TARGETS)
def test_it_serves_and_is_stopped_as_an_operator_would(dockerfile: Dockerfile, target: str) -> None:
    """In exec form: a shell between the engine and the server would swallow SIGTERM, and it could not drain."""
    program, command = exec_form(dockerfile.last(target, "ENTRYPOINT"))
    assert (program, dockerfile.last(target, "STOPSIGNAL")) == ("naiad", "SIGTERM")
    assert command in {
        each.name or each.callback.__name__ for each in app.registered_commands if each.callback
    }
    fields = ServerConfig.model_fields
    ports = [str(fields[name].default) for name in ("http_port", "grpc_port", "metrics_port")]
    assert dockerfile.last(target, "EXPOSE").split() == ports


@pytest.mark.parametrize("target", TARGETS)
def test_it_asks_itself_whether_it_lives(dockerfile: Dockerfile, target: str) -> None:
    """For live, by a command that the command line takes, with more time than that command takes itself."""
    options, _, command = dockerfile.last(target, "HEALTHCHECK").partition(" CMD ")
    program, health, *arguments = exec_form(command)
    assert (program, health) == ("naiad", "health")
    question = read_question(arguments, dockerfile.environment(target))
    assert not question.ready
    timeout = re.search(r"--timeout=(\d+)s", options)
    assert timeout is not None
    assert int(timeout[1]) > question.timeout_s


@pytest.mark.parametrize("target", TARGETS)
def test_its_variables_are_settings(dockerfile: Dockerfile, target: str) -> None:
    ours = {name for name in dockerfile.environment(target) if name.startswith("NAIAD_")}
    assert ours
    assert ours <= set(map(environment_name, ServerConfig.model_fields))


@pytest.mark.parametrize("target", TARGETS)
def test_it_brings_one_engine_by_extras_that_exist(
    dockerfile: Dockerfile, pyproject: dict[str, Any], target: str
) -> None:
    runs = " ".join(rest for keyword, rest in dockerfile.all_of(target) if keyword == "RUN")
    extras = {extra for text in re.findall(r'"\$1\[([a-z,]+)\]"', runs) for extra in text.split(",")}
    assert extras <= set(pyproject["project"]["optional-dependencies"])
    assert extras & {"cpu", "gpu", "tensorrt"} == EXTRAS[target]


@pytest.mark.parametrize("target", TARGETS)
def test_what_comes_from_a_registry_is_constrained(dockerfile: Dockerfile, target: str) -> None:
    """Each `pip install` has constraints, and those it has were mounted or copied, or it takes nothing more."""
    instructions = [*dockerfile.stages["wheel"].instructions, *dockerfile.all_of(target)]
    installs = [rest for keyword, rest in instructions if keyword == "RUN" and "pip install" in rest]
    assert len(installs) >= 3
    for rest in installs:
        named = set(re.findall(r"--constraint (\S+)", rest))
        if named:
            assert named <= {mount["target"] for mount in mounts(rest)} | {"constraints.txt"}
        else:
            assert "--no-deps --no-index" in rest


def test_the_engines_pins_go_with_the_others(pyproject: dict[str, Any]) -> None:
    """No package is pinned twice, each range is met, and all images run one version of ONNX Runtime."""
    ours, others = pins("docker/constraints-gpu.txt"), pins("constraints.txt")
    assert ours.keys() & others.keys() == set()
    assert ours["onnxruntime-gpu"] == others["onnxruntime"]
    extras = pyproject["project"]["optional-dependencies"]
    for requirement in map(Requirement, [*extras["gpu"], *extras["tensorrt"]]):
        if requirement.name != "naiad":
            assert ours[canonicalize_name(requirement.name)] in requirement.specifier


def build_wheel(source: Path, folder: Path) -> Path:
    """The wheel of a tree, built as the Dockerfile builds it."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=50)
    (wheel,) = folder.glob("*.whl")
    return wheel


def contents(wheel: Path) -> tuple[set[str], list[str]]:
    """Its files, and what it requires."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        parsed = HeaderParser().parsestr(archive.read(metadata).decode())
    return set(names), parsed.get_all("Requires-Dist", [])


def test_the_image_has_the_trees_wheel_and_the_skeleton_its_requirements(
    dockerfile: Dockerfile, tmp_path: Path
) -> None:
    """The steps of the stage `wheel`, in a folder of their own: what is copied makes the whole wheel."""
    context, whole = tmp_path / "context", contents(build_wheel(ROOT, tmp_path / "whole"))
    context.mkdir()
    built: list[tuple[set[str], list[str]]] = []
    for keyword, rest in dockerfile.stages["wheel"].instructions:
        if keyword == "COPY":
            *names, folder = rest.split()
            for name in names:
                _copy(name, context / folder)
        elif "hatchling build" in rest:
            prepare = rest.partition("&& python")[0] if "&&" in rest else "true"
            subprocess.run(["sh", "-euc", prepare], cwd=context, check=True)
            built.append(contents(build_wheel(context, tmp_path / str(len(built)))))
    skeleton, image = built
    assert image == whole
    assert skeleton[1] == whole[1]
    assert not [name for name in skeleton[0] if name.endswith(".py")]


def _copy(name: str, target: Path) -> None:
    """COPY a file into a folder, or a folder's content over another."""
    if (ROOT / name).is_file():
        shutil.copy(ROOT / name, target)
    else:
        shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


def test_hadolint_finds_nothing() -> None:
    """Where it is installed."""
    program = shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    result = subprocess.run([program, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
