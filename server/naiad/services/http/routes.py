"""From a request's path to what it asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from naiad.services.restricted import Category

GET = ("GET",)
PROBE = ("GET", "HEAD")
POST = ("POST",)
BOTH = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for: the endpoint's name, its category for restrictions, its methods, its names.

    `names` holds what the path names: a model, its version ("" for none), a region, a repository.
    """

    endpoint: str
    category: Category
    methods: tuple[str, ...]
    names: tuple[str, ...] = field(default=())

    @property
    def model(self) -> str:
        """The model that the path names; "" if it names none."""
        if self.endpoint in ("repository_load", "repository_unload"):
            return self.names[1]
        return self.names[0] if self.endpoint == "trace" or self.endpoint.startswith("model_") else ""


_MODEL_CALLS = {
    "ready": (Category.HEALTH, PROBE),
    "config": (Category.MODEL_CONFIG, GET),
    "stats": (Category.STATISTICS, GET),
    "infer": (Category.INFERENCE, POST),
    "generate": (Category.INFERENCE, POST),
    "generate_stream": (Category.INFERENCE, POST),
}
_MEMORY_CALLS = {"status": GET, "register": POST, "unregister": POST}


_FIXED = {
    ("v2",): Route("server_metadata", Category.METADATA, GET),
    ("v2", "health", "live"): Route("server_live", Category.HEALTH, PROBE),
    ("v2", "health", "ready"): Route("server_ready", Category.HEALTH, PROBE),
    ("v2", "models", "stats"): Route("model_stats", Category.STATISTICS, GET, ("", "")),
    ("v2", "trace", "setting"): Route("trace", Category.TRACE, BOTH, ("",)),
    ("v2", "logging"): Route("logging", Category.LOGGING, BOTH),
}


def route(raw_path: bytes) -> Route | None:
    """The route of a path as it came, percent escapes and all; None if there is none.

    Each segment is unescaped by itself and stands for itself: `..` or an escaped slash is part of a name,
    never of the way to it. One trailing slash is forgiven. An alias of a path is the same route, so that a
    restriction holds for all of them.
    """
    root, *segments = raw_path.decode("ascii", "replace").split("/")
    if b"%" in raw_path:
        segments = [unquote(segment) for segment in segments]
    if segments[-1:] == [""]:
        segments.pop()
    if root:
        return None
    if fixed := _FIXED.get(tuple(segments)):
        return fixed
    match segments:
        case ["v2", "models", name, *rest] if name:
            return _model_route(name, rest)
        case ["v2", "repository", *rest]:
            return _repository_route(rest)
        case ["v2", "systemsharedmemory" | "cudasharedmemory" as kind, *rest]:
            return _memory_route("system" if kind.startswith("system") else "cuda", rest)
    return None


def _model_route(name: str, rest: list[str]) -> Route | None:
    if rest == ["trace", "setting"]:
        return Route("trace", Category.TRACE, BOTH, (name,))
    version = ""
    if len(rest) > 1 and rest[0] == "versions":
        _, version, *rest = rest
        if not version:
            return None
    match rest:
        case []:
            return Route("model_metadata", Category.METADATA, GET, (name, version))
        case [call] if call in _MODEL_CALLS:
            category, methods = _MODEL_CALLS[call]
            return Route(f"model_{call}", category, methods, (name, version))
    return None


def _repository_route(rest: list[str]) -> Route | None:
    match rest:
        case ["index"]:
            return Route("repository_index", Category.MODEL_REPOSITORY, POST, ("",))
        case ["models", name, "load" | "unload" as call] if name:
            return Route(f"repository_{call}", Category.MODEL_REPOSITORY, POST, ("", name))
        case [repository, "index"] if repository:
            return Route("repository_index", Category.MODEL_REPOSITORY, POST, (repository,))
        case [repository, "models", name, "load" | "unload" as call] if repository and name:
            return Route(f"repository_{call}", Category.MODEL_REPOSITORY, POST, (repository, name))
    return None


def _memory_route(kind: str, rest: list[str]) -> Route | None:
    match rest:
        case [call] if call in _MEMORY_CALLS:
            return Route(f"{kind}_memory_{call}", Category.SHARED_MEMORY, _MEMORY_CALLS[call], ("",))
        case ["region", name, call] if name and call in _MEMORY_CALLS:
            return Route(f"{kind}_memory_{call}", Category.SHARED_MEMORY, _MEMORY_CALLS[call], (name,))
    return None
