"""Paths to routes: every endpoint, every alias, and what is none."""

from __future__ import annotations

import pytest

from naiad.services.http.endpoints import ENDPOINTS
from naiad.services.http.routes import BOTH, GET, POST, PROBE, Route, route
from naiad.services.restricted import Category

PATHS = {
    "/v2": Route("server_metadata", Category.METADATA, GET),
    "/v2/health/live": Route("server_live", Category.HEALTH, PROBE),
    "/v2/health/ready": Route("server_ready", Category.HEALTH, PROBE),
    "/v2/models/stats": Route("model_stats", Category.STATISTICS, GET, ("", "")),
    "/v2/models/M": Route("model_metadata", Category.METADATA, GET, ("M", "")),
    "/v2/models/M/versions/3": Route("model_metadata", Category.METADATA, GET, ("M", "3")),
    "/v2/models/M/ready": Route("model_ready", Category.HEALTH, PROBE, ("M", "")),
    "/v2/models/M/versions/3/ready": Route("model_ready", Category.HEALTH, PROBE, ("M", "3")),
    "/v2/models/M/config": Route("model_config", Category.MODEL_CONFIG, GET, ("M", "")),
    "/v2/models/M/stats": Route("model_stats", Category.STATISTICS, GET, ("M", "")),
    "/v2/models/M/infer": Route("model_infer", Category.INFERENCE, POST, ("M", "")),
    "/v2/models/M/versions/3/infer": Route("model_infer", Category.INFERENCE, POST, ("M", "3")),
    "/v2/models/M/generate": Route("model_generate", Category.INFERENCE, POST, ("M", "")),
    "/v2/models/M/generate_stream": Route("model_generate_stream", Category.INFERENCE, POST, ("M", "")),
    "/v2/models/M/trace/setting": Route("trace", Category.TRACE, BOTH, ("M",)),
    "/v2/trace/setting": Route("trace", Category.TRACE, BOTH, ("",)),
    "/v2/logging": Route("logging", Category.LOGGING, BOTH),
    "/v2/repository/index": Route("repository_index", Category.MODEL_REPOSITORY, POST, ("",)),
    "/v2/repository/R/index": Route("repository_index", Category.MODEL_REPOSITORY, POST, ("R",)),
    "/v2/repository/models/M/load": Route("repository_load", Category.MODEL_REPOSITORY, POST, ("", "M")),
    "/v2/repository/R/models/M/unload": Route(
        "repository_unload", Category.MODEL_REPOSITORY, POST, ("R", "M")
    ),
    "/v2/systemsharedmemory/status": Route("system_memory_status", Category.SHARED_MEMORY, GET, ("",)),
    "/v2/systemsharedmemory/region/N/register": Route(
        "system_memory_register", Category.SHARED_MEMORY, POST, ("N",)
    ),
    "/v2/cudasharedmemory/unregister": Route("cuda_memory_unregister", Category.SHARED_MEMORY, POST, ("",)),
    "/v2/cudasharedmemory/region/N/status": Route("cuda_memory_status", Category.SHARED_MEMORY, GET, ("N",)),
}


@pytest.mark.parametrize("path", PATHS)
def test_each_path_has_its_route_and_the_route_its_endpoint(path: str) -> None:
    assert route(path.encode()) == PATHS[path]
    assert PATHS[path].endpoint in ENDPOINTS


@pytest.mark.parametrize("path", PATHS)
def test_a_trailing_slash_and_escapes_are_the_same_route_so_that_no_restriction_is_walked_around(
    path: str,
) -> None:
    escaped = "/" + "/".join(
        "".join(f"%{ord(character):02x}" for character in segment) for segment in path[1:].split("/")
    )
    assert route(f"{path}/".encode()) == route(escaped.encode()) == PATHS[path]


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "//v2", "v2", "*", "/v1", "/v2//", "/v2/health", "/v2/health/alive", "/v2/models", "/v2/models//infer",
        "/v2/models/M/versions", "/v2/models/M/versions//infer", "/v2/models/M/versions/1/trace/setting",
        "/v2/models/M/x", "/v2/models/M/infer/x", "/v2/repository/models//load", "/v2/repository/models/M",
        "/v2/systemsharedmemory", "/v2/systemsharedmemory/region//status", "/v2/x/../health/live",
        "/metrics", "/v2/models/%ff/x", "/V2",
    ],
)  # fmt: skip
def test_other_paths_have_none(path: str) -> None:
    assert route(path.encode()) is None


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v2/models/a%2Fb/infer", "a/b"), ("/v2/models/%2e%2e/infer", ".."), ("/v2/models/../infer", "..")],
)
def test_slashes_and_dots_are_part_of_a_name_and_lead_nowhere(path: str, name: str) -> None:
    found = route(path.encode())
    assert found is not None
    assert (found.endpoint, found.names) == ("model_infer", (name, ""))


@pytest.mark.parametrize("path", PATHS)
def test_a_route_knows_the_model_that_its_path_names_and_takes_no_region_or_repository_for_one(
    path: str,
) -> None:
    assert PATHS[path].model == ("M" if "M" in path.split("/") else "")
