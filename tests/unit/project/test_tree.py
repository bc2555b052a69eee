"""What may not be in the tree: other people's addresses, local paths, the folders as packages, a second engine."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# Written in pieces, so that this file passes its own test.
HOSTS = [
    "py" + "pi.org",
    "python" + "hosted",
    "ana" + "conda",
    "jf" + "rog",
    "arti" + "factory",
    "nex" + "us",
    "ghcr" + ".io",
    "docker" + ".io",
    "nvcr" + ".io",
    "npm" + "js",
]
OPTIONS = ["index" + "-url", "find" + "-links", "trusted" + "-host"]
FORBIDDEN = {
    "a package registry's host or option": re.compile(
        "|".join(map(re.escape, [*HOSTS, *OPTIONS])), re.IGNORECASE
    ),
    "a path of one machine": re.compile(r"(?<![\w.}/-])/(?:work|root|Users|home/\w+)/\w"),
    "a credential": re.compile(
        r"://[^/\s:@]+:[^/\s@]+@|BEGIN [A-Z ]*PRIVATE KEY|\b(?:ghp|gho|glpat|hf|AKIA)[_-]?\w{16,}"
    ),
}
APACHE_2 = "283ea6cc2997a1a70da0049e09adf9317bb60ca1b51279b65196b83a69e1996b"
MAX_BYTES = 512 * 1024


def files_of(root: Path) -> list[Path]:
    """The files that git tracks or would add, or skips the test where there is no git."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        pytest.skip("not a git checkout")
    # safe.directory: the checkout may belong to somebody else than who tests it.
    command = [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, timeout=30).stdout
    return [path for name in listed.split("\0") if name and (path := root / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(root: Path, what: str) -> None:
    """The tree says nothing of where it was written or where its packages came from."""
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()[:80]}"
        for path in files_of(root)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


def test_no_file_is_a_graph_or_large(root: Path) -> None:
    """Models are built by `naiad demo build`, pictures come with packages: the tree stays small."""
    found = [
        path.name for path in files_of(root) if path.suffix == ".onnx" or path.stat().st_size > MAX_BYTES
    ]
    assert found == []


def test_folders_hold_no_module_of_their_own(root: Path) -> None:
    """`server`, `clients` and `protos` are folders: a .py file in one would make it look like a package."""
    assert [
        str(path) for folder in ("server", "clients", "protos") for path in (root / folder).glob("*.py")
    ] == []


@pytest.mark.parametrize(
    "line", ["import server.naiad", "from clients.python import naiad_client", "import protos"]
)
def test_lint_refuses_a_folder_as_a_package(root: Path, line: str) -> None:
    """From the root such an import succeeds silently and gives a second copy of everything."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251"]
    command += ["--stdin-filename", "server/naiad/example.py", "-"]
    result = subprocess.run(
        command, cwd=root, input=f"{line}\n", capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 1
    assert "TID251" in result.stdout


def test_engine_is_loaded_by_name_in_two_files_only(root: Path) -> None:
    """import-linter sees import statements; this sees the engine imported by a string."""
    by_name = re.compile(r"""import(?:_module|__)\(\s*["']onnxruntime["'.]""")
    modules = (root / "server" / "naiad").rglob("*.py")
    found = {path.name for path in modules if by_name.search(path.read_text(encoding="utf-8"))}
    assert found <= {"onnx_session.py", "ort_environment.py"}


def test_licence_is_the_apache_licence_word_for_word(root: Path) -> None:
    """Not one word of the licence was changed."""
    words = (root / "LICENSE").read_bytes().strip()
    assert hashlib.sha256(words).hexdigest() == APACHE_2
