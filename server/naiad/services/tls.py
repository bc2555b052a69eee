"""TLS of the gRPC front end: certificates from files, checked at start, read again when renewed."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import grpc
import structlog

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

CERT_FLAG = "--grpc-server-cert"
KEY_FLAG = "--grpc-server-key"
ROOT_FLAG = "--grpc-root-cert"
USE_FLAG = "--grpc-use-ssl"
MUTUAL_FLAG = "--grpc-use-ssl-mutual"

MAX_PEM_BYTES = 2**20
"""The largest certificate or key file that is read."""

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a server: its certificate chain, its key, and whose certificates clients must have.

    With `mutual` a client must show a certificate that `root` verifies.
    """

    certificate: Path
    key: Path
    root: Path | None = None
    mutual: bool = False

    @classmethod
    def of(
        cls, *, use_ssl: bool, mutual: bool, certificate: Path | None, key: Path | None, root: Path | None
    ) -> Self | None:
        """The files as the flags name them, or None without TLS; they are read and checked.

        Raises:
            InvalidArgumentError: a file is not named or would not be used, or its content is not what it
                should be; the text names the flag and the path.
        """
        named = {CERT_FLAG: certificate, KEY_FLAG: key, ROOT_FLAG: root}
        if not (use_ssl or mutual):
            for flag, path in named.items():
                if path is not None:
                    # Served in the clear, while the operator believes it is not.
                    raise InvalidArgumentError(f"{flag}={path} is given without {USE_FLAG}")
            return None
        wanted = MUTUAL_FLAG if mutual else USE_FLAG
        if certificate is None or key is None:
            raise InvalidArgumentError(
                f"{CERT_FLAG if certificate is None else KEY_FLAG} is required by {wanted}"
            )
        if mutual and root is None:
            raise InvalidArgumentError(f"{ROOT_FLAG} is required by {wanted}")
        files = cls(certificate, key, root, mutual)
        files.read()
        return files

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read and check the files.

        Raises:
            InvalidArgumentError: a file cannot be read or holds no PEM, or the key is not the certificate's.
        """
        certificate = _read(CERT_FLAG, self.certificate)
        _check_certificates(CERT_FLAG, self.certificate, certificate)
        key = _read(KEY_FLAG, self.key)
        self._check_key()
        root = None
        if self.root is not None:
            root = _read(ROOT_FLAG, self.root)
            _check_certificates(ROOT_FLAG, self.root, root)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=root)

    def stamp(self) -> Stamp:
        """What changes when a file is written or replaced."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.root) if path is not None)

    def _check_key(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A password is never asked for: nobody sits at a server's terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, ValueError) as error:
            if "MISMATCH" in (getattr(error, "reason", None) or ""):
                raise InvalidArgumentError(
                    f"{KEY_FLAG}={self.key} is not the key of {CERT_FLAG}={self.certificate}"
                ) from None
            raise InvalidArgumentError(
                f"{KEY_FLAG}={self.key}: not a private key in PEM without a password ({_reason(error)})"
            ) from None
        except OSError as error:
            raise InvalidArgumentError(f"{KEY_FLAG}={self.key}: {error.strerror or error}") from None


def _read(flag: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise InvalidArgumentError(f"{flag}={path}: {error.strerror or error}") from None
    if len(data) > MAX_PEM_BYTES:
        raise InvalidArgumentError(f"{flag}={path}: larger than {MAX_PEM_BYTES} bytes")
    return data


def _check_certificates(flag: str, path: Path, data: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgumentError(f"{flag}={path}: no certificate in PEM ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class CertificateReloader:
    """Gives each new connection the certificate that lies on disk.

    Files that were renewed and are not yet whole, or are wrong, are told of once in the log; the certificate
    before them stays in use.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = files.stamp()
        self._first = files.read()
        self._lock = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask `renewed` at each connection."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self.renewed,  # type: ignore[arg-type]  # None is "no change", which the stubs forgot
            require_client_authentication=self._files.mutual,
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificate if the files changed, else None. gRPC calls it on its own threads."""
        with self._lock:
            stamp = self._files.stamp()
            if stamp == self._seen:
                return None
            try:
                configuration = self._files.read()
            except InvalidArgumentError as error:
                log.error("certificate not renewed", reason=error.message, who="operator")
                self._seen = stamp
                return None
            if self._files.stamp() != stamp:
                return None  # written while it was read: the next connection looks again
            self._seen = stamp
            log.info("certificate renewed", certificate=str(self._files.certificate))
            return configuration
