"""What ``labelloop keys`` makes: what services prove with who they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from labelloop.wire.errors import InvalidInput
from labelloop.wire.nkey import UserKey, new_seed

from labelloop_cli.console import console

USERS = ("trainer", "scorer", "oracle", "import")
_CERTIFIED = ("nats", "trainer", "scorer", "oracle", "client")
_AUTHORITY_DAYS = 3650


def nats_(folder: Path) -> None:
    """Make a key for each user of the broker: FOLDER/<user>.seed for LABELLOOP_NATS_NKEY_FILE, <user>.public for the
    broker's environment (NATS_NKEY_<USER>)."""
    _check_absent([folder / f"{user}.seed" for user in USERS])
    for user in USERS:
        seed, public = new_nkey()
        _write(folder / f"{user}.seed", seed)
        _write(folder / f"{user}.public", public)
    console.print(f"keys of {', '.join(USERS)} written to {folder}")


def tls(folder: Path, hosts: Sequence[str] = (), days: int = 90) -> None:
    """Make certificates for development: an authority, and FOLDER/<service> for LABELLOOP_TLS_DIR of each service, with
    `client` for whoever calls them. In production let cert-manager do it."""
    from labelloop_cli.certificates import authority, issue

    _check_absent([folder / name / "tls.key" for name in _CERTIFIED])
    root = authority(timedelta(days=_AUTHORITY_DAYS))
    for name in _CERTIFIED:
        pair = issue(root, name, [name, "localhost", "127.0.0.1", *hosts], timedelta(days=days))
        _write(folder / name / "ca.crt", root.certificate_pem)
        _write(folder / name / "tls.crt", pair.certificate_pem)
        _write(folder / name / "tls.key", pair.key_pem)
    console.print(f"certificates of {', '.join(_CERTIFIED)} written to {folder}; the authority's own key was not kept")


def cluster() -> None:
    """Make the Secrets nkey-<user> of this pod's namespace, from within Kubernetes; those that are there stay."""
    from labelloop_cli.cluster_secrets import in_cluster

    with in_cluster() as api:
        for user in USERS:
            seed, public = new_nkey()
            made = api.create(f"nkey-{user}", {"seed": seed, "public": public})
            console.print(f"nkey-{user}: {'made' if made else 'there already, left alone'}")


def new_nkey() -> tuple[bytes, bytes]:
    """The seed of a user, and the public key by which the broker knows it."""
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
