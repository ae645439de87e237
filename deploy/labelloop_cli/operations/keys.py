"""Make the keys and certificates with which services authenticate, for ``labelloop keys``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from labelloop.errors import InvalidInput
from labelloop.eventlog.nkey import UserKey, new_seed

from labelloop_cli.output.console import console

USERS = ("trainer", "scorer", "oracle", "import")
_CERTIFIED = ("nats", "trainer", "scorer", "oracle", "client")
_AUTHORITY_DAYS = 3650


def nats_(folder: Path) -> None:
    """Make an NKey for each user of the NATS broker. Raises InvalidInput if the folder already holds one.

    FOLDER/<user>.seed is for LABELLOOP_NATS_NKEY_FILE, and FOLDER/<user>.public for the broker's environment
    (NATS_NKEY_<USER>).
    """
    _check_absent([folder / f"{user}.seed" for user in USERS])
    for user in USERS:
        seed, public = new_nkey()
        _write(folder / f"{user}.seed", seed)
        _write(folder / f"{user}.public", public)
    console.print(f"keys of {', '.join(USERS)} written to {folder}")


def tls(folder: Path, hosts: Sequence[str] = (), days: int = 90) -> None:
    """Make TLS certificates for development; in production, use cert-manager.

    Writes FOLDER/<service> for each service's LABELLOOP_TLS_DIR, and FOLDER/client for their clients. All are issued by
    one new certificate authority. Raises InvalidInput if the folder already holds one of the keys.

    Args:
        hosts: Additional host names or addresses of the services.
        days: Validity of the certificates, except the authority's.
    """
    from labelloop_cli.local.certificates import authority, issue

    _check_absent([folder / name / "tls.key" for name in _CERTIFIED])
    root = authority(timedelta(days=_AUTHORITY_DAYS))
    for name in _CERTIFIED:
        pair = issue(root, name, [name, "localhost", "127.0.0.1", *hosts], timedelta(days=days))
        _write(folder / name / "ca.crt", root.certificate_pem)
        _write(folder / name / "tls.crt", pair.certificate_pem)
        _write(folder / name / "tls.key", pair.key_pem)
    console.print(f"certificates of {', '.join(_CERTIFIED)} written to {folder}; the authority's own key was not kept")


def cluster() -> None:
    """Create the Secrets nkey-<user> in this pod's namespace, from within Kubernetes, keeping those that exist."""
    from labelloop_cli.local.cluster_secrets import in_cluster

    with in_cluster() as api:
        for user in USERS:
            seed, public = new_nkey()
            made = api.create(f"nkey-{user}", {"seed": seed, "public": public})
            console.print(f"nkey-{user}: {'made' if made else 'there already, left alone'}")


def new_nkey() -> tuple[bytes, bytes]:
    """Create the seed of a user, and the public key by which the broker recognises it."""
    seed = new_seed()
    return seed, UserKey(seed).public.encode()


def _check_absent(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            message = f"{path} is there already, and somebody may rely on it: choose another folder"
            raise InvalidInput("KEYS_EXIST", message, field="folder", path=path)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
