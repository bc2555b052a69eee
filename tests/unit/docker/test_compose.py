"""docker/compose.yaml: hardened, bounded, and in step with the images, the settings and the files that it mounts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.images import DOCKER, ROOT, TARGETS, Dockerfile, load_yaml

from naiad.config.command_line import parse_command_line
from naiad.config.server_config import ServerConfig

VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")
SERVERS = {f"naiad-{target}": target for target in TARGETS}


def with_defaults(value: Any) -> Any:
    """A value with each variable's default in its place; a required one is `given`."""
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: found[3] if found[2] == "-" else "given", value)
    if isinstance(value, list):
        return [with_defaults(each) for each in value]
    if isinstance(value, dict):
        return {key: with_defaults(each) for key, each in value.items()}
    return value


@pytest.fixture(scope="module")
def compose() -> Any:
    (document,) = load_yaml(DOCKER / "compose.yaml")
    return with_defaults(document)


@pytest.fixture(scope="module")
def services(compose: Any) -> Any:
    return compose["services"]


def seconds(text: str) -> int:
    """Of `45s`."""
    return int(text.removesuffix("s"))


def test_a_profile_brings_the_server_that_it_names(services: Any) -> None:
    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == {
        name: [target] for name, target in SERVERS.items()
    }


def test_every_service_is_hardened_and_bounded(services: Any) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert "privileged" not in service, name
        assert not [key for key in ("pid", "ipc", "network_mode", "user") if key in service], name


def test_images_are_built_here_or_pinned(services: Any) -> None:
    for name, service in services.items():
        tag = service["image"].partition(":")[2]
        assert "build" in service or re.fullmatch(r"v?\d+\.\d+\.\d+(@sha256:\w{64})?", tag), name


@pytest.mark.parametrize(("name", "target"), SERVERS.items())
def test_a_server_is_built_from_its_target(services: Any, name: str, target: str) -> None:
    build = services[name]["build"]
    assert build["target"] == target
    assert target in Dockerfile.read((DOCKER / build["context"] / build["dockerfile"]).resolve()).stages
    assert (DOCKER / build["context"]).resolve() == ROOT
    assert services[name]["image"] == f"naiad:{target}"


@pytest.mark.parametrize("name", SERVERS)
def test_a_servers_flags_are_naiads(services: Any, name: str) -> None:
    """They are parsed as `naiad serve` parses them, which refuses unknown flags and wrong values."""
    flags = parse_command_line(services[name]["command"]).flags
    ServerConfig(**(flags | {"model_repository": ["models"]}))  # type: ignore[arg-type]  # pydantic's own conversion


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_not_killed_while_it_drains(services: Any, name: str) -> None:
    drain_s = ServerConfig.model_fields["exit_timeout_secs"].default
    assert seconds(services[name]["stop_grace_period"]) > drain_s


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_finds_its_models_and_its_folders(services: Any, name: str) -> None:
    """Models are read-only, from a folder that must exist; what may be written is /tmp and the cache."""
    image = Dockerfile.read().environment(SERVERS[name])
    models, cache = services[name]["volumes"]
    assert (models["target"], models["read_only"]) == (image["NAIAD_MODEL_REPOSITORY"], True)
    assert models["bind"] == {"create_host_path": False}
    assert cache == "naiad-cache:/var/cache/naiad"
    assert [each.partition(":")[0] for each in services[name]["tmpfs"]] == ["/tmp"]


def test_only_the_gpus_images_ask_for_one(services: Any) -> None:
    asks = {name: "reservations" in services[name]["deploy"]["resources"] for name in SERVERS}
    assert asks == {"naiad-cpu": False, "naiad-cuda": True, "naiad-tensorrt": True}


def test_ports_are_opened_to_this_host_alone(services: Any) -> None:
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
    fields = ServerConfig.model_fields
    ports = [str(fields[key].default) for key in ("http_port", "grpc_port", "metrics_port")]
    for name in SERVERS:
        assert [port.rpartition(":")[2] for port in services[name]["ports"]] == ports


def test_every_folder_and_volume_that_is_mounted_is_there(compose: Any, services: Any) -> None:
    mounts = [each for service in services.values() for each in service["volumes"] if isinstance(each, str)]
    for mount in mounts:
        source, target, *_ = mount.split(":")
        assert target.startswith("/")
        assert (DOCKER / source).is_dir() if source.startswith(".") else source in compose["volumes"], mount


def test_prometheus_looks_at_the_server_and_takes_the_rules(services: Any) -> None:
    (config,) = load_yaml(DOCKER / "prometheus/prometheus.yml")
    (job,) = config["scrape_configs"]
    ((target,),) = [each["targets"] for each in job["static_configs"]]
    host, port = target.split(":")
    assert all(services[name]["networks"]["default"]["aliases"] == [host] for name in SERVERS)
    assert int(port) == ServerConfig.model_fields["metrics_port"].default
    assert "metrics_path" not in job, "/metrics is where both look"
    assert all((DOCKER / "prometheus" / name).is_file() for name in config["rule_files"])
    assert "./prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]


def test_grafana_finds_prometheus_and_the_dashboard(services: Any) -> None:
    provisioning = DOCKER / "grafana/provisioning"
    (sources,) = load_yaml(provisioning / "datasources/prometheus.yaml")
    (providers,) = load_yaml(provisioning / "dashboards/naiad.yaml")
    mounted = dict(each.split(":")[:2] for each in services["grafana"]["volumes"])
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounted["./grafana/dashboards"] == providers["providers"][0]["options"]["path"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, _, name = home.rpartition("/")
    assert folder == mounted["./grafana/dashboards"]
    assert (DOCKER / "grafana/dashboards" / name).is_file()
    (source,) = sources["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    host, port = source["url"].removeprefix("http://").split(":")
    assert host in services
    assert services[host]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_the_page_names_every_variable() -> None:
    """`docs/docker.md` says what each is for."""
    names = {name for name, *_ in VARIABLE.findall((DOCKER / "compose.yaml").read_text(encoding="utf-8"))}
    page = (ROOT / "docs/docker.md").read_text(encoding="utf-8")
    assert len(names) > 2
    assert [name for name in names if f"`{name}`" not in page] == []
