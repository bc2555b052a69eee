"""Generated protobuf messages and gRPC stubs; written by `protos/generate.sh`, never edited.

Import them as `from naiad_protos.naiad.vision.v1 import vision_pb2, vision_pb2_grpc`.
"""
