"""The committed messages are what the .proto files generate, and they live where they say."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from naiad_protos import DESCRIPTOR_SET
from naiad_protos.naiad.vision.v1 import vision_pb2, vision_pb2_grpc

PROTOS = Path(__file__).resolve().parents[3] / "protos"
COMMITTED = PROTOS / "python" / "naiad_protos"
PROTO_NAME = "naiad/vision/v1/vision.proto"


def sources(folder: Path) -> dict[str, bytes]:
    """Every source file below `folder`, by its path relative to it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".pyi", ".binpb"}
    }


def test_committed_files_are_byte_for_byte_what_the_script_generates(tmp_path: Path) -> None:
    """Fails with the files' names when protos/generate.sh was forgotten (or other tool versions run)."""
    pytest.importorskip("grpc_tools")
    subprocess.run(
        [PROTOS / "generate.sh", tmp_path],
        check=True,
        env={**os.environ, "PYTHON": sys.executable},
        timeout=60,
    )
    fresh, committed = sources(tmp_path / "naiad"), sources(COMMITTED / "naiad")
    assert fresh.keys() == committed.keys()
    assert {"vision/v1/vision_pb2.py", "vision/v1/vision.binpb"} <= fresh.keys()
    stale = [name for name, content in fresh.items() if committed[name] != content]
    assert stale == [], f"run protos/generate.sh: {stale}"


def test_descriptor_equals_the_compiled_proto_file(tmp_path: Path) -> None:
    """Whatever generator made them, the committed messages have the .proto file's fields and numbers."""
    pytest.importorskip("grpc_tools")
    compiled = tmp_path / "set.pb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
    subprocess.run([*command, f"--descriptor_set_out={compiled}", PROTO_NAME], check=True, timeout=60)
    expected = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file[0]
    actual = descriptor_pb2.FileDescriptorProto()
    vision_pb2.DESCRIPTOR.CopyToProto(actual)
    for file in (expected, actual):
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
    assert actual == expected


def test_descriptor_set_holds_the_contract_and_its_comments() -> None:
    """What other languages' clients are generated from is what this one speaks, with the words of the .proto file."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes()).file
    (told,) = (file for file in files if file.name == PROTO_NAME)
    assert any("track" in place.leading_comments for place in told.source_code_info.location)
    told.ClearField("source_code_info")
    spoken = descriptor_pb2.FileDescriptorProto()
    vision_pb2.DESCRIPTOR.CopyToProto(spoken)
    for file in (told, spoken):
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
    assert told == spoken


@pytest.mark.parametrize(("language", "file"), [("cpp", "vision.pb.h"), ("java", "Vision.java")])
def test_other_languages_are_generated_from_the_descriptor_set(
    tmp_path: Path, language: str, file: str
) -> None:
    """By protoc alone, without the .proto file."""
    protoc = shutil.which("protoc")
    if protoc is None:
        pytest.skip("no protoc on this machine")
    command = [protoc, f"--descriptor_set_in={DESCRIPTOR_SET}", f"--{language}_out={tmp_path}", PROTO_NAME]
    subprocess.run(command, check=True, timeout=60)
    assert "DetectRequest" in (tmp_path / "naiad" / "vision" / "v1" / file).read_text()


def test_file_is_registered_under_its_proto_path() -> None:
    """Reflection and other programs know it by this name, whatever package holds the Python code."""
    assert descriptor_pool.Default().FindFileByName(PROTO_NAME) is vision_pb2.DESCRIPTOR


def test_messages_know_the_module_they_live_in() -> None:
    """A message pickles, so it can cross a process boundary."""
    point = vision_pb2.Point(x=1.5, y=-2)
    assert pickle.loads(pickle.dumps(point)) == point


def test_stubs_import_no_server() -> None:
    """`naiad` (the server) and `naiad_protos.naiad` (messages) are different packages."""
    program = (
        "import sys; from naiad_protos.naiad.vision.v1 import vision_pb2_grpc; print('naiad' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert output.stdout.strip() == b"False"


def test_service_has_its_methods() -> None:
    """The stub and the servicer agree with the .proto file's service."""
    service = vision_pb2.DESCRIPTOR.services_by_name["VisionService"]
    assert [method.name for method in service.methods] == [
        "Detect",
        "Embed",
        "Analyze",
        "Compare",
        "StreamDetect",
        "StreamEmbed",
        "StreamAnalyze",
    ]
    assert all(hasattr(vision_pb2_grpc.VisionServiceServicer, method.name) for method in service.methods)
