"""Triton's protocol without a transport: one method a call, for gRPC and HTTP alike.

Messages are Triton's protobuf messages; a front end only reads and writes its wire. Every method raises
`NaiadError`s, which a front end maps by its table (`services/status.py`).
"""
