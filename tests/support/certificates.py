"""Certificate authorities and certificates that live as long as a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import trustme

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A certificate chain with its key, and the root of whoever signed it: PEM files."""

    certificate: Path
    key: Path
    root: Path

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """A client that trusts the root and shows this certificate."""
        return grpc.ssl_channel_credentials(
            self.root.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )

    def trusting_credentials(self) -> grpc.ChannelCredentials:
        """A client that trusts the root and shows no certificate."""
        return grpc.ssl_channel_credentials(self.root.read_bytes())


class Authority:
    """A root of its own, which signs certificates for loopback."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def issue(self, folder: Path) -> Identity:
        """Write a new certificate, its key and the root into the folder, over what was there."""
        folder.mkdir(parents=True, exist_ok=True)
        leaf = self._ca.issue_cert("localhost", "127.0.0.1", "::1")
        issued = Identity(folder / "server.crt", folder / "server.key", folder / "ca.crt")
        issued.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        issued.key.write_bytes(leaf.private_key_pem.bytes())
        issued.root.write_bytes(self._ca.cert_pem.bytes())
        return issued
