"""TLS for every connection, both ends with a certificate: a folder of ``ca.crt``, ``tls.crt`` and ``tls.key``, which is
how cert-manager writes them. Certificates that are renewed there are picked up without a restart by servers, with the
next connection, and by clients when they start."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog

from labelloop.wire.errors import InvalidInput

_FILES = ("ca.crt", "tls.crt", "tls.key")

log = structlog.get_logger()


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """For a server that turns away whoever has no certificate of the same authority. InvalidInput for a bad folder."""
    renewals = _Renewals(folder)
    return grpc.dynamic_ssl_server_credentials(renewals.first, renewals.newest, require_client_authentication=True)


def channel(
    address: str, folder: Path | None, options: Sequence[tuple[str, Any]], *, host: str = ""
) -> grpc.aio.Channel:
    """A channel to ``address``, with TLS where there is a ``folder``; ``host`` is the name in the server's certificate
    where ``address`` is a number. InvalidInput for a bad folder."""
    if folder is None:
        return grpc.aio.insecure_channel(address, options=options)
    authority, certificate, key = _read(folder)
    named = [("grpc.ssl_target_name_override", host)] if host else []
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.aio.secure_channel(address, credentials, options=[*options, *named])


def client_context(folder: Path) -> ssl.SSLContext:
    """For the connection to the broker. InvalidInput for a bad folder."""
    _read(folder)
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


class _Renewals:
    """What gRPC asks at each new connection, on a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents = _read(folder)
        self.first = self._current = _configuration(self._contents)

    def newest(self) -> grpc.ServerCertificateConfiguration:
        try:
            contents = _read(self._folder)
        except InvalidInput as error:  # half renewed: what there was serves until the rest has come
            log.warning("renewed certificates cannot be used", problem=error.message)
            return self._current
        if contents != self._contents:
            self._contents, self._current = contents, _configuration(contents)
            log.info("certificates renewed", folder=str(self._folder))
        return self._current


def _configuration(contents: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    authority, certificate, key = contents
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)


def _read(folder: Path) -> tuple[bytes, bytes, bytes]:
    """The three files, if they can be used together; gRPC itself would only say that it cannot."""
    try:
        authority, certificate, key = ((folder / name).read_bytes() for name in _FILES)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(folder / "ca.crt")
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    except (OSError, ssl.SSLError) as error:
        message = f"LABELLOOP_TLS_DIR={folder} must hold {', '.join(_FILES)} that fit together: {error}"
        raise InvalidInput("BAD_TLS_DIR", message, field="tls_dir", folder=folder) from error
    return authority, certificate, key
