"""Read a folder of ``ca.crt``, ``tls.crt`` and ``tls.key``, as cert-manager writes them, again and again.

A folder ``authorities`` beside them may hold more authorities to trust, one or several in each ``*.crt``: while
certificates of two authorities are in use, everybody trusts both.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from labelloop.errors import InvalidInput

_FILES = ("ca.crt", "tls.crt", "tls.key")

log = structlog.get_logger()


@dataclass(frozen=True)
class Certificates:
    """What a folder holds, as PEM.

    Attributes:
        authorities: The certificates of all authorities to trust.
        certificate: The certificate to present, with its chain.
        key: Its private key.
    """

    authorities: bytes
    certificate: bytes
    key: bytes

    def ends(self) -> Mapping[str, float]:
        """Return when certificates expire, in seconds since 1970, by common name: the earliest of that name."""
        from cryptography.x509 import load_pem_x509_certificates
        from cryptography.x509.oid import NameOID

        found: dict[str, float] = {}
        for each in load_pem_x509_certificates(self.authorities + b"\n" + self.certificate):
            names = each.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            name = str(names[0].value) if names else each.subject.rfc4514_string()
            end = each.not_valid_after_utc.timestamp()
            found[name] = min(end, found.get(name, end))
        return found


def read(folder: Path) -> Certificates:
    """Read the files; raise InvalidInput if TLS cannot load them, for which gRPC itself would give no reason."""
    try:
        authority, certificate, key = ((folder / name).read_bytes() for name in _FILES)
        more = [path.read_bytes() for path in sorted((folder / "authorities").glob("*.crt"))]
        found = Certificates(b"\n".join([authority, *more]), certificate, key)
        if not found.authorities.strip():  # for which Python would trust the system's authorities
            raise ValueError("ca.crt is empty")
        client_context(folder, found)
    except (OSError, ValueError) as error:  # SSLError is an OSError, text that is not ASCII a ValueError
        message = f"LABELLOOP_TLS_DIR={folder} must hold {', '.join(_FILES)} that fit together: {error}"
        raise InvalidInput("BAD_TLS_DIR", message, field="tls_dir", folder=folder) from error
    return found


def client_context(folder: Path, certificates: Certificates) -> ssl.SSLContext:
    """Return the TLS context of a client with these certificates; raise SSLError if they cannot be used."""
    context = ssl.create_default_context(cadata=certificates.authorities.decode("ascii"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


class Renewals:
    """The newest certificates of a folder that could be used.

    Raises:
        InvalidInput: By the constructor, if the folder's files cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._current = read(folder)

    def newest(self) -> Certificates:
        """Read the folder again; while it is half renewed, return what it held before."""
        try:
            found = read(self.folder)
        except InvalidInput as error:
            log.warning("certificates_not_renewed", problem=error.message)
            return self._current
        if found != self._current:
            self._current = found
            log.info("certificates_renewed", folder=str(self.folder))
        return self._current
