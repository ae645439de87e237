"""Let an HTTP server take TLS connections of clients with a certificate, as :mod:`labelloop.rpc.tls` does for gRPC."""

from __future__ import annotations

import ssl
from pathlib import Path

from labelloop.rpc.certificates import Certificates, Renewals


def server_context(folder: Path) -> ssl.SSLContext:
    """Return the context of a server that rejects clients without a certificate of an authority that it trusts.

    The folder is read again for each connection, so that renewed certificates are used from the next one on.

    Raises:
        InvalidInput: If the folder's files cannot be used.
    """
    renewals = Renewals(folder)
    known = renewals.newest()
    current = _context(folder, known)

    def renewed(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        nonlocal known, current
        newest = renewals.newest()
        if newest != known:
            try:
                known, current = newest, _context(folder, newest)
            except OSError:  # the folder changed in this moment: the next connection looks again
                return
        connection.context = current

    entry = _context(folder, known)
    entry.sni_callback = renewed
    return entry


def _context(folder: Path, certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificates.authorities.decode("ascii"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context
