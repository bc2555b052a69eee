"""What is in the wheel, and what installing it asks for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built by the hatchling of this environment: no network, nothing written here."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=50,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[PurePosixPath]:
    """The paths in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {PurePosixPath(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def test_wheel_is_pure_python_for_any_machine(wheel: Path) -> None:
    """One wheel serves every platform."""
    assert wheel.name.endswith("-py3-none-any.whl")


def test_wheel_holds_the_three_packages_and_nothing_else(names: set[PurePosixPath]) -> None:
    """No tests, benchmarks, examples or folder names of the tree reach site-packages."""
    tops = {name.parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "naiad",
        "naiad_client",
        "naiad_protos",
    }


@pytest.mark.parametrize(
    ("folder", "package"),
    [("server", "naiad"), ("clients/python", "naiad_client"), ("protos/python", "naiad_protos")],
)
def test_wheel_holds_every_module_and_stub_of_a_package(
    root: Path, names: set[PurePosixPath], folder: str, package: str
) -> None:
    """Each .py and .pyi of the tree is shipped, and py.typed with it, so type checkers see Naiad's types."""
    source = root / folder
    files = {
        path for path in (source / package).rglob("*") if path.suffix in {".py", ".pyi"} and path.is_file()
    }
    expected = {PurePosixPath(path.relative_to(source).as_posix()) for path in files}
    assert expected | {PurePosixPath(package, "py.typed")} <= names


def test_wheel_holds_the_generated_messages(names: set[PurePosixPath]) -> None:
    """The client works without a proto compiler."""
    folder = PurePosixPath("naiad_protos/naiad/vision/v1")
    generated = {
        "vision_pb2.py",
        "vision_pb2.pyi",
        "vision_pb2_grpc.py",
        "vision_pb2_grpc.pyi",
        "vision.binpb",
    }
    assert {folder / name for name in generated} <= names


def test_wheel_holds_the_demo_repository_without_its_graphs(root: Path, names: set[PurePosixPath]) -> None:
    """`naiad demo build` finds each config inside the package; ONNX files are built, never shipped."""
    configs = {
        path.relative_to(root).as_posix() for path in (root / "model_repository").rglob("config.pbtxt")
    }
    assert {PurePosixPath("naiad/demo", config) for config in configs} <= names
    assert not {name for name in names if name.suffix == ".onnx"}


def test_wheel_holds_the_licence(names: set[PurePosixPath]) -> None:
    """The licence travels with the code."""
    assert any(name.match("*.dist-info/licenses/LICENSE") for name in names)


def test_plain_install_is_the_light_client(metadata: Message) -> None:
    """`pip install naiad` needs grpcio, protobuf and numpy; everything else is behind an extra."""
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    always = {requirement.name for requirement in requirements if requirement.marker is None}
    assert always == {"grpcio", "protobuf", "numpy"}


def test_cpu_and_gpu_ask_for_one_engine_each(metadata: Message) -> None:
    """The two engine packages share an import folder: no extra may bring both."""
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]

    def of(extra: str) -> set[str]:
        chosen = [r for r in requirements if r.marker is not None and r.marker.evaluate({"extra": extra})]
        return {r.name for r in chosen if r.name.startswith("onnxruntime")}

    assert of("cpu") == {"onnxruntime"}
    assert of("gpu") == {"onnxruntime-gpu"}


def test_naiad_command_is_declared(wheel: Path) -> None:
    """Installing the wheel installs the `naiad` command."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "naiad = naiad.__main__:main" in archive.read(name).decode()
