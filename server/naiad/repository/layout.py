"""What lies in a model repository: models, their version folders, and the model file of a version."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import ModelConfig

DUPLICATE = "model appears in two or more repositories"

_NOT_VERSIONS = frozenset({"warmup", "initial_state", "configs"})
_MODEL_FILES = frozenset({"config.pbtxt", "configs"})
_DIGITS = re.compile(r"[0-9]+")
_MAX_VERSION = 2**63 - 1
_DEFAULT_FILENAME = "model.onnx"
_MAX_LOOKED_AT = 1_000
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's folder: `versions` are its numeric folders, ascending; `notes` name the ignored ones.

    `unmarked` are numeric folders that do not count yet, as they lack the file that says that they are whole.
    """

    name: str
    path: Path
    versions: tuple[int, ...]
    notes: tuple[str, ...] = ()
    unmarked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositoryScan:
    """What was found: models sorted by name, and for each name that cannot be served the reason why."""

    models: tuple[ModelFolder, ...]
    problems: Mapping[str, str] = field(default_factory=dict)


def scan(roots: Sequence[Path], *, marker: str = "") -> RepositoryScan:
    """Look at every model repository once.

    Plain files are skipped, and folders that are no model's: `lost+found`, and hidden ones without a config
    or a version, such as `.git`.

    Args:
        roots: the repositories; naming one twice is the same as once.
        marker: the file that a version's folder must hold to count; "" for none.

    Raises:
        InvalidArgumentError: a root is missing, no folder, or cannot be listed.
    """
    found = list_folders(roots)
    models: list[ModelFolder] = []
    problems: dict[str, str] = {}
    for name, paths in sorted(found.items()):
        if not _is_text(name):
            problems[ascii(name)] = "the folder's name is not UTF-8 text"
        elif len(paths) > 1:
            problems[name] = DUPLICATE
        else:
            try:
                models.append(read_folder(paths[0], marker=marker))
            except InvalidArgumentError as error:
                problems[name] = error.message
    return RepositoryScan(tuple(models), problems)


def list_folders(roots: Sequence[Path]) -> dict[str, list[Path]]:
    """The folders of each name in the repositories: more than one is a model that is there twice.

    Raises:
        InvalidArgumentError: a root is missing, no folder, or cannot be listed.
    """
    found: dict[str, list[Path]] = {}
    for root in sorted({_resolved(root) for root in roots}):
        for path in _folders(root):
            found.setdefault(path.name, []).append(path)
    return found


def find_folder(roots: Sequence[Path], name: str, *, marker: str = "") -> ModelFolder:
    """The folder of one model.

    Args:
        roots: the repositories.
        name: a single folder's name.
        marker: the file that a version's folder must hold to count; "" for none.

    Raises:
        NotFoundError: no repository has it.
        UnavailableError: more than one has; the message names them.
        InvalidArgumentError: it cannot be listed.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise NotFoundError(f"{name!r} is not the name of a model folder")
    paths = [root / name for root in sorted({_resolved(root) for root in roots})]
    paths = [path for path in paths if _is_folder(path)]
    if not paths:
        raise NotFoundError(f"model '{name}' is not in {', '.join(map(str, roots)) or 'any repository'}")
    if len(paths) > 1:
        raise UnavailableError(f"{DUPLICATE}: {', '.join(map(str, paths))}")
    return read_folder(paths[0], marker=marker)


def _resolved(root: Path) -> Path:
    try:
        return root.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11's word for a loop of links
        raise InvalidArgumentError(f"cannot resolve {root} (--model-repository): {error}") from None


def read_folder(path: Path, *, marker: str = "") -> ModelFolder:
    """The model folder at `path` with its versions.

    Args:
        path: the folder.
        marker: the file that a version's folder must hold to count; "" for none.

    Raises:
        InvalidArgumentError: the folder cannot be listed.
    """
    versions: list[int] = []
    unmarked: list[int] = []
    notes: list[str] = []
    try:
        entries = sorted(entry.name for entry in path.iterdir() if _is_folder(entry))
    except OSError as error:
        raise InvalidArgumentError(f"cannot list model folder {path}: {error.strerror}") from error
    for name in entries:
        if name in _NOT_VERSIONS or name.startswith("."):
            continue
        why = _why_no_version(name)
        if why:
            notes.append(f"ignored folder {name!a} of model '{path.name}': {why}")
        elif marker and not _exists(path / name / marker):
            why = f"it holds no file {marker} yet (--repository-ready-marker)"
            notes.append(f"passed over version {name} of model '{path.name}': {why}")
            unmarked.append(int(name))
        else:
            versions.append(int(name))
    return ModelFolder(
        path.name, path, tuple(sorted(versions)), tuple(notes), unmarked=tuple(sorted(unmarked))
    )


def model_file(folder: ModelFolder, version: int, config: ModelConfig) -> Path:
    """The file that holds the version's graph.

    `default_model_filename` may name a directory, which then holds `model.onnx` and its external data.
    Only the name itself must stay inside the version's folder: symlinks are how stores share files.

    Raises:
        InvalidArgumentError: `default_model_filename` leads out of the version's folder.
        UnavailableError: there is no such file.
    """
    filename = config.model_filename or _DEFAULT_FILENAME
    name = PurePosixPath(filename)
    if name.is_absolute() or ".." in name.parts or "\0" in filename:
        raise InvalidArgumentError(
            f"default_model_filename of model '{folder.name}' is {filename!r}: "
            "it must stay inside the version's folder"
        )
    path = folder.path / str(version) / name
    try:
        path = path / _DEFAULT_FILENAME if path.is_dir() else path
        found = path.is_file()
    except OSError as error:
        raise UnavailableError(f"cannot read '{path}': {error.strerror}") from error
    if not found:
        group = config.instance_groups[0].name if config.instance_groups else config.name
        raise UnavailableError(f"unable to find '{path}' for model instance '{group}_0'")
    return path


def looks_like_model(root: Path) -> bool:
    """Whether a repository seems to be one level too deep: it holds a config, or nothing but versions."""
    try:
        folders = [path for path in root.iterdir() if _is_folder(path)]
    except OSError:
        return False
    if (root / "config.pbtxt").is_file():
        return True
    only_numbers = bool(folders) and all(_DIGITS.fullmatch(path.name) for path in folders)
    return only_numbers and not any(map(_holds_model, folders))  # models may be called by numbers


def level_hint(root: Path) -> str:
    """What to give in place of a repository that seems to be at the wrong level; "" if nothing seems wrong.

    It may be the folder of a model, or of a version, or the folder above one or more repositories.
    """
    try:
        return _level_hint(root.resolve())
    except (OSError, RuntimeError):  # that it cannot be listed is told by others
        return ""


def _level_hint(root: Path) -> str:
    if (root / _DEFAULT_FILENAME).is_file():
        if _DIGITS.fullmatch(root.name):
            place = root.parent.parent
            return f"this looks like a version of a model: the model repository is two folders above, {place}"
        return f"{_DEFAULT_FILENAME} lies in it: a model is a folder, NAME/1/{_DEFAULT_FILENAME}"
    if looks_like_model(root):
        return f"this looks like the folder of one model: the model repository is its parent, {root.parent}"
    below = [path for path in islice(sorted(root.iterdir()), _MAX_LOOKED_AT) if _is_shown_folder(path)]
    if any(map(_holds_model, below)):
        return ""
    found = [str(path) for path in below if any(map(_holds_model, islice(_below(path), _MAX_LOOKED_AT)))]
    if not found:
        return ""
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    is_are = "model repository is" if len(found) == 1 else "model repositories are"
    return f"there is no model in it, but a level below: the {is_are} {', '.join(found[:_MAX_NAMED])}{more}"


def _holds_model(path: Path) -> bool:
    """Whether a folder is a model's: it has a config or a version."""
    return any(
        entry.name == "config.pbtxt" or (_DIGITS.fullmatch(entry.name) and _is_folder(entry))
        for entry in _below(path)
    )


def _below(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _is_shown_folder(path: Path) -> bool:
    return not path.name.startswith(".") and _is_folder(path)


def _folders(root: Path) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if _is_folder(entry) and not _is_no_models(entry)]
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot list model repository {root} (--model-repository): {error.strerror}"
        ) from error


def _is_no_models(path: Path) -> bool:
    """Whether a folder is the file system's or some tool's, which would otherwise be a model that fails."""
    if path.name == "lost+found":
        return True
    return path.name.startswith(".") and not any(
        _DIGITS.fullmatch(name) or name in _MODEL_FILES for name in _names(path)
    )


def _names(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.iterdir()]
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return True  # a link into what we may not see: trying to list it will say why


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # what may not be looked into is not known to be whole


def _why_no_version(name: str) -> str:
    """Why a folder's name is no version number; empty if it is one."""
    if not _DIGITS.fullmatch(name):
        return "its name is not a whole number"
    if name != "0" and name.startswith("0"):
        return "its name has leading zeros"
    if int(name[:20]) > _MAX_VERSION:
        return f"its number is above {_MAX_VERSION}"
    return ""


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
