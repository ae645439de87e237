"""Set up mutual TLS from a folder of certificates (see :mod:`labelloop.rpc.certificates`).

Servers and clients pick up renewed certificates without a restart: servers with the next connection, clients of gRPC
with the next call, clients of the broker when they connect again.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
from prometheus_client.core import Metric

from labelloop.errors import InvalidInput
from labelloop.observability import metrics, tracing
from labelloop.rpc.certificates import Certificates, Renewals
from labelloop.rpc.certificates import client_context as context_of
from labelloop.rpc.renewed_channel import RenewedChannel


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """Return credentials for a server that rejects clients without a certificate of an authority that it trusts.

    Raises:
        InvalidInput: If the folder's files cannot be used.
    """
    certificates = ServerCertificates(folder)
    metrics.watch(certificates.renewals, certificate_ends)
    return grpc.dynamic_ssl_server_credentials(
        certificates.current,
        certificates.changed,  # type: ignore[arg-type]  # its type lacks the None that gRPC documents
        require_client_authentication=True,
    )


def certificate_ends(renewals: Renewals) -> Iterable[Metric]:
    """Build the gauge of when the certificates of a folder expire."""
    text = "When the certificate of that name expires, in seconds since 1970; of several, the first."
    yield metrics.gauge("labelloop_certificate_end_seconds", text, "certificate", renewals.newest().ends())


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
    named = [("grpc.ssl_target_name_override", host)] if host else []

    def open_with(certificates: Certificates) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(certificates.authorities, certificates.key, certificates.certificate)
        return grpc.aio.secure_channel(address, credentials, options=[*options, *named], interceptors=around)

    return RenewedChannel(Renewals(folder), open_with)


def client_context(renewals: Renewals) -> ssl.SSLContext:
    """Return a TLS context for a connection to the broker, with the newest certificates.

    Raises:
        InvalidInput: If the folder changed in this moment, and its files do not fit together.
    """
    try:
        return context_of(renewals.folder, renewals.newest())
    except OSError as error:
        message = f"LABELLOOP_TLS_DIR={renewals.folder} was changed while it was read: {error}"
        raise InvalidInput("BAD_TLS_DIR", message, field="tls_dir", folder=renewals.folder) from error


class ServerCertificates:
    """Provides certificates to gRPC, which asks at each new connection, on several threads of its own.

    It is told of a change once: whatever it is given it installs for all connections, without a lock, and ends the
    process if many handshakes are under way while it does.
    """

    def __init__(self, folder: Path) -> None:
        self.renewals = Renewals(folder)
        self._contents = self.renewals.newest()
        self.current = _configuration(self._contents)
        self._lock = Lock()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificates if they are others than those that gRPC has; None if not."""
        with self._lock:
            contents = self.renewals.newest()
            if contents == self._contents:
                return None
            self._contents, self.current = contents, _configuration(contents)
            return self.current


def _configuration(of: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(of.key, of.certificate)], root_certificates=of.authorities)
