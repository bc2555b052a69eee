"""gRPC over HTTP/2 on the event loop; `docs/adr/0004-own-grpc-transport.md` says why."""
