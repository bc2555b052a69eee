"""Generated protobuf messages and gRPC stubs; written by `protos/generate.sh`, never edited.

Import them as `from naiad_protos.naiad.vision.v1 import vision_pb2, vision_pb2_grpc`.
"""

from __future__ import annotations

from pathlib import Path

DESCRIPTOR_SET = Path(__file__).with_name("naiad") / "vision" / "v1" / "vision.binpb"
"""The contract and its comments as a FileDescriptorSet, which protoc, buf and grpcurl take for the .proto."""
