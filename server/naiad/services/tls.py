"""TLS of the gRPC front end: certificates from files, checked at start, read again when renewed.

Both transports are served: gRPC's core by its own configurations, asyncio by SSL contexts.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Self, TypeVar

import grpc
import structlog

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CERT_FLAG = "--grpc-server-cert"
KEY_FLAG = "--grpc-server-key"
ROOT_FLAG = "--grpc-root-cert"
USE_FLAG = "--grpc-use-ssl"
MUTUAL_FLAG = "--grpc-use-ssl-mutual"

MAX_PEM_BYTES = 2**20
"""The largest certificate or key file that is read."""

ALPN: Final = "h2"
"""What a client must speak inside TLS."""

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2's suites that HTTP/2 does not forbid (RFC 9113, appendix A); those of TLS 1.3 all are good."""

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]
_T = TypeVar("_T")


class _Pem(NamedTuple):
    """What the files hold."""

    certificate: bytes
    key: bytes
    root: bytes | None


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
        """Read and check the files, for gRPC's core.

        Raises:
            InvalidArgumentError: a file cannot be read or holds no PEM, or the key is not the certificate's.
        """
        pem = self._pem(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        return grpc.ssl_server_certificate_configuration(
            [(pem.key, pem.certificate)], root_certificates=pem.root
        )

    def context(self) -> ssl.SSLContext:
        """Read and check the files, for asyncio: TLS 1.2 and later, with ALPN.

        A client that does not offer `ALPN` is not refused by it: look at the connection's own.

        Raises:
            InvalidArgumentError: as `read`.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols([ALPN])
        # HTTP/2 forbids it, and a client could keep the server at it.
        context.options |= ssl.OP_NO_RENEGOTIATION
        pem = self._pem(context)
        if self.mutual and pem.root is not None:
            context.load_verify_locations(cadata=_text(pem.root))
            context.verify_mode = ssl.CERT_REQUIRED
            # As gRPC's core: the root given may be an authority that another one signed.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def stamp(self) -> Stamp:
        """What changes when a file is written or replaced."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.root) if path is not None)

    def _pem(self, context: ssl.SSLContext) -> _Pem:
        """The files' content, checked; the context has the certificate and its key then."""
        certificate = _read(CERT_FLAG, self.certificate)
        _check_certificates(CERT_FLAG, self.certificate, certificate)
        key = _read(KEY_FLAG, self.key)
        self._load(context)
        root = None
        if self.root is not None:
            root = _read(ROOT_FLAG, self.root)
            _check_certificates(ROOT_FLAG, self.root, root)
        return _Pem(certificate, key, root)

    def _load(self, context: ssl.SSLContext) -> None:
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
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=_text(data))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgumentError(f"{flag}={path}: no certificate in PEM ({_reason(error)})") from None


def _text(pem: bytes) -> str:
    return pem.decode("ascii", "ignore")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Renewal(Generic[_T]):
    """What is made of the files, once at first and again whenever they changed.

    Files that were renewed and are not yet whole, or are wrong, are told of once in the log; what was made
    before stays in use.
    """

    def __init__(self, files: TlsFiles, make: Callable[[], _T]) -> None:
        self._files = files
        self._make = make
        self._seen = files.stamp()
        self.first = make()

    def renewed(self) -> _T | None:
        """What is made of the files if they changed, else None."""
        stamp = self._files.stamp()
        if stamp == self._seen:
            return None
        try:
            made = self._make()
        except InvalidArgumentError as error:
            log.error("certificate not renewed", reason=error.message, who="operator")
            self._seen = stamp
            return None
        if self._files.stamp() != stamp:
            return None  # written while it was read: the next connection looks again
        self._seen = stamp
        log.info("certificate renewed", certificate=str(self._files.certificate))
        return made


class CertificateReloader:
    """Gives gRPC's core the certificate that lies on disk, at each new connection."""

    def __init__(self, files: TlsFiles) -> None:
        self._mutual = files.mutual
        self._renewal = _Renewal(files, files.read)
        self._lock = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask `renewed` at each connection."""
        return grpc.dynamic_ssl_server_credentials(
            self._renewal.first,
            self.renewed,  # type: ignore[arg-type]  # None is "no change", which the stubs forgot
            require_client_authentication=self._mutual,
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificate if the files changed, else None. gRPC calls it on its own threads."""
        with self._lock:
            return self._renewal.renewed()


class ContextReloader:
    """Gives asyncio the SSL context of the files on disk, at each new connection; for one thread.

    Whatever changed, the context is a new one. So nothing of an old root's lives on: a session's ticket is
    of use with the context that gave it, and no other.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._renewal = _Renewal(files, files.context)
        self._current = self._renewal.first

    def current(self) -> ssl.SSLContext:
        """The newest context that the files gave."""
        renewed = self._renewal.renewed()
        if renewed is not None:
            self._current = renewed
        return self._current
