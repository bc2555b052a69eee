"""The docker commands of docs/docker.md: none runs without an engine, so what they name is checked instead."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import NamedTuple

import pytest
from support.images import ROOT, TARGETS, Dockerfile, load_yaml
from typer.main import get_command

from naiad.cli.main import app
from naiad.config.command_line import parse_command_line
from naiad.config.server_config import ServerConfig, environment_name

PAGE = (ROOT / "docs/docker.md").read_text(encoding="utf-8")


class Run(NamedTuple):
    """A `docker run`: its own options, the image's target, and what stands after the image."""

    options: argparse.Namespace
    target: str
    arguments: list[str]


def docker(*command: str) -> list[list[str]]:
    """The words after `docker COMMAND` of each such line of the page's blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines]
    words = [line[line.index("docker") :] for line in words if "docker" in line]
    return [line[len(command) + 1 :] for line in words if line[1 : len(command) + 1] == list(command)]


def read_run(words: list[str]) -> Run:
    """A `docker run`, by the options that the page uses; an unknown one ends the test."""
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    for flag in ("--rm", "--read-only"):
        parser.add_argument(flag, action="store_true")
    for option in ("-p", "-v", "-e", "--tmpfs", "--cap-drop", "--security-opt", "--ulimit"):
        parser.add_argument(option, action="append", default=[])
    for option in ("--name", "--gpus", "--cpus", "--memory", "--pids-limit", "--entrypoint"):
        parser.add_argument(option)
    parser.add_argument("image")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(words)
    return Run(options, options.image.removeprefix("naiad:"), options.arguments)


RUNS = [read_run(words) for words in docker("run")]


def test_builds_name_targets_of_the_dockerfile_and_tag_them_alike() -> None:
    built = docker("build")
    assert len(built) >= 2
    for words in built:
        given = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
        assert given["--target"] in Dockerfile.read(ROOT / given["-f"]).stages
        assert given["-t"] == f"naiad:{given['--target']}"
        assert words[-1] == "."


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join([run.target, *run.arguments]))
def test_a_run_names_an_image_and_what_naiad_takes(run: Run) -> None:
    assert run.target in TARGETS
    assert (run.options.gpus is not None) == (run.target != "cpu")
    if run.options.entrypoint:
        assert run.options.entrypoint == "naiad"
        assert run.arguments[0] in get_command(app).list_commands(None)  # type: ignore[attr-defined]  # a click group
    else:
        flags = parse_command_line(run.arguments).flags
        ServerConfig(**(flags | {"model_repository": ["models"]}))  # type: ignore[arg-type]  # pydantic's own conversion
    variables = {text.partition("=")[0] for text in run.options.e}
    assert variables <= set(map(environment_name, ServerConfig.model_fields))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join([run.target, *run.arguments]))
def test_a_run_mounts_models_read_only_and_publishes_to_this_host(run: Run) -> None:
    image = Dockerfile.read().environment(run.target)
    mounts = [text.split(":") for text in run.options.v]
    assert [mount[1:] for mount in mounts if mount[1] == image["NAIAD_MODEL_REPOSITORY"]] == [
        ["/models", "ro"]
    ]
    assert {mount[1] for mount in mounts} <= {"/models", "/var/cache/naiad"}
    assert set(run.options.p) <= {"127.0.0.1:8000-8002:8000-8002"}


def test_compose_is_started_with_a_profile_and_what_it_requires() -> None:
    ((_, file, _, profile, *_),) = docker("compose")
    (document,) = load_yaml(ROOT / file)
    assert [profile] in [service.get("profiles") for service in document["services"].values()]
    required = re.findall(r"\$\{(\w+):\?", (ROOT / file).read_text(encoding="utf-8"))
    assert required
    assert all(f"{name}=" in PAGE for name in required)


def test_links_into_the_tree_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
