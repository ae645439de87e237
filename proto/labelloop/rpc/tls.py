"""Set up mutual TLS from a folder of ``ca.crt``, ``tls.crt`` and ``tls.key``, as cert-manager writes them.

Servers pick up renewed certificates with the next connection, without a restart; clients do when they start.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog

from labelloop.errors import InvalidInput
from labelloop.observability import tracing

_FILES = ("ca.crt", "tls.crt", "tls.key")

log = structlog.get_logger()


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """Return credentials for a server that rejects clients without a certificate of the same authority.

    Raises:
        InvalidInput: If the folder's files cannot be used.
    """
    renewals = _Renewals(folder)
    return grpc.dynamic_ssl_server_credentials(renewals.first, renewals.newest, require_client_authentication=True)


def channel(
    address: str,
    folder: Path | None,
    options: Sequence[tuple[str, Any]],
    *,
    host: str = "",
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """Open a channel to ``address``.

    Args:
        folder: The folder of certificates; None for no TLS.
        host: The name in the server's certificate, if ``address`` is an IP address.
        interceptors: They see each call before those that trace it.

    Raises:
        InvalidInput: If the folder's files cannot be used.
    """
    around = [*interceptors, *tracing.interceptors()]
    if folder is None:
        return grpc.aio.insecure_channel(address, options=options, interceptors=around)
    authority, certificate, key = _read(folder)
    named = [("grpc.ssl_target_name_override", host)] if host else []
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.aio.secure_channel(address, credentials, options=[*options, *named], interceptors=around)


def client_context(folder: Path) -> ssl.SSLContext:
    """Return the TLS context of connections to the broker; raise InvalidInput if the folder's files cannot be used."""
    _read(folder)
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


class _Renewals:
    """Provides the current certificates to gRPC, which asks at each new connection, on a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents = _read(folder)
        self.first = self._current = _configuration(self._contents)

    def newest(self) -> grpc.ServerCertificateConfiguration:
        try:
            contents = _read(self._folder)
        except InvalidInput as error:  # half renewed: use the previous ones until the rest is there
            log.warning("certificates_not_renewed", problem=error.message)
            return self._current
        if contents != self._contents:
            self._contents, self._current = contents, _configuration(contents)
            log.info("certificates_renewed", folder=str(self._folder))
        return self._current


def _configuration(contents: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    authority, certificate, key = contents
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)


def _read(folder: Path) -> tuple[bytes, bytes, bytes]:
    """Read the three files; raise InvalidInput if TLS cannot load them, for which gRPC itself would give no reason."""
    try:
        authority, certificate, key = ((folder / name).read_bytes() for name in _FILES)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(folder / "ca.crt")
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    except (OSError, ssl.SSLError) as error:
        message = f"LABELLOOP_TLS_DIR={folder} must hold {', '.join(_FILES)} that fit together: {error}"
        raise InvalidInput("BAD_TLS_DIR", message, field="tls_dir", folder=folder) from error
    return authority, certificate, key
