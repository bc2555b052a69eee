"""The wire: Triton's gRPC service, the vision service, health, reflection. Only here is grpc known."""
