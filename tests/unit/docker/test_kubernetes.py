"""docker/kubernetes.yaml says what docs/operations.md does, runs the image as it is, and is locked down."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.compatibility import OPERATIONS
from support.images import DOCKER, Dockerfile, load_yaml

from naiad.config.command_line import parse_command_line
from naiad.config.server_config import ServerConfig


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    """Each by its kind."""
    return {each["kind"]: each for each in load_yaml(DOCKER / "kubernetes.yaml")}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, Any]) -> Any:
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (only,) = pod["containers"]
    return only


def test_probes_and_times_are_those_of_the_operations_page(pod: Any, container: Any) -> None:
    """Everything that the page's block says, to the letter; it is tested against the server."""
    yaml = pytest.importorskip("yaml")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", OPERATIONS.read_text(), re.DOTALL | re.MULTILINE)
    page = yaml.safe_load(block)["spec"]
    (page_container,) = page.pop("containers")
    assert {key: pod[key] for key in page} == page
    assert {key: container[key] for key in page_container} == page_container


def test_it_runs_as_the_images_user_without_rights(pod: Any, container: Any) -> None:
    user, group = map(int, Dockerfile.read().last("cpu", "USER").split(":"))
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (user, group, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_every_mount_has_its_volume_and_the_models_are_read_only(pod: Any, container: Any) -> None:
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounts["models"]["mountPath"] == Dockerfile.read().environment("cpu")["NAIAD_MODEL_REPOSITORY"]
    assert mounts["models"]["readOnly"] is True
    assert mounts["tmp"]["mountPath"] == "/tmp"


def test_the_threads_are_a_whole_number_of_cpus(container: Any) -> None:
    """The limit is the quota that the thread budget is read from; it is rounded down."""
    assert container["resources"]["limits"]["cpu"].isdecimal()
    assert container["resources"]["limits"]["memory"]


def test_its_flags_are_naiads(container: Any) -> None:
    flags = parse_command_line(container["args"]).flags
    ServerConfig(**(flags | {"model_repository": ["models"]}))  # type: ignore[arg-type]  # pydantic's own conversion


def test_the_service_reaches_every_port_of_the_pods(manifests: dict[str, Any], container: Any) -> None:
    fields = ServerConfig.model_fields
    ports = {name: fields[f"{name}_port"].default for name in ("http", "grpc", "metrics")}
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == ports
    service, deployment = manifests["Service"]["spec"], manifests["Deployment"]["spec"]
    assert {port["name"]: port["port"] for port in service["ports"]} == ports
    labels = deployment["template"]["metadata"]["labels"]
    assert service["selector"] == deployment["selector"]["matchLabels"] == labels
    assert deployment["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
