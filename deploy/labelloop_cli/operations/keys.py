"""Make the keys and certificates with which services authenticate, for ``labelloop keys``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event

from labelloop.errors import InvalidInput, WrongState
from labelloop.eventlog.nkey import BadSeed, UserKey, new_seed

from labelloop_cli.output.console import console

USERS = ("trainer", "scorer", "oracle", "import", "operator")
_CERTIFIED = ("nats", "trainer", "scorer", "oracle", "client")
_AUTHORITY_DAYS = 3650
_FOLLOWS = "broker-certificates"


def nats_(folder: Path) -> None:
    """Make two NKeys for each user of the NATS broker. Raises InvalidInput if the folder already holds one.

    FOLDER/<user>.seed is for LABELLOOP_NATS_NKEY_FILE, and FOLDER/<user>.public for the broker's environment
    (NATS_NKEY_<USER>); FOLDER/<user>-next.* are the key that the user changes to one day, which the broker knows from
    now on (NATS_NKEY_<USER>_NEXT).
    """
    names = [f"{user}{kind}" for user in USERS for kind in ("", "-next")]
    _check_absent([folder / f"{name}.seed" for name in names])
    for name in names:
        seed, public = new_nkey()
        _write(folder / f"{name}.seed", seed)
        _write(folder / f"{name}.public", public)
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


def cluster(account: Path | None = None) -> None:
    """Complete the Secrets nkey-<user> in this pod's namespace, from within Kubernetes, keeping the keys that exist.

    ``account`` is the folder of the pod's token, None for where Kubernetes puts it.
    """
    from labelloop_cli.local.cluster_secrets import ACCOUNT, in_cluster

    with in_cluster(account or ACCOUNT) as api:
        for user in USERS:
            added = api.complete(f"nkey-{user}", missing_nkeys)
            console.print(f"nkey-{user}: {'made ' + ', '.join(added) if added else 'complete, left alone'}")


def follow(folder: Path, into: Path, pid_file: Path, every_s: float, stop: Event | None = None) -> None:
    """Keep the certificates of a nats-server up to date until ``stop``: joined in one folder, and told to the server.

    The metrics, with LABELLOOP_METRICS_PORT set, say when they expire.

    Args:
        folder: The certificates as they are renewed, as in LABELLOOP_TLS_DIR.
        into: A folder; the server reads ``into/current``.
        pid_file: The server's file of its process id.
        every_s: How often to look.

    Raises:
        InvalidInput: If the folder's files cannot be used at the start.
    """
    from labelloop.observability import metrics
    from labelloop.observability.logs import set_up_logs
    from labelloop.rpc.certificates import Renewals
    from labelloop.rpc.tls import certificate_ends
    from labelloop.settings import ServiceSettings, read_settings

    from labelloop_cli.local.broker_certificates import Broker, hand_over

    settings = read_settings(ServiceSettings)
    set_up_logs(_FOLLOWS, settings.log_format, settings.log_level)
    renewals, broker, stop = Renewals(folder), Broker(pid_file), stop or Event()
    metrics.watch(renewals, certificate_ends)
    metrics.serve(_FOLLOWS, settings)
    while True:
        broker.tell(hand_over(renewals.newest(), into))
        if stop.wait(every_s):
            return


def missing_nkeys(had: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what a Secret of a user lacks of its two keys, the one in use and the next.

    Raises:
        WrongState: If a public key is there without its seed: someone else may hold the seed, and could log in with it.
    """
    added: dict[str, bytes] = {}
    for prefix in ("", "next-"):
        seed, public = had.get(f"{prefix}seed"), had.get(f"{prefix}public")
        if seed is None and public is not None:
            message = f"the Secret has {prefix}public without {prefix}seed: remove that key, and a new pair is made"
            raise WrongState("SECRET_INCOMPLETE", message)
        if seed is None:
            added[f"{prefix}seed"], added[f"{prefix}public"] = new_nkey()
        elif public is None:
            added[f"{prefix}public"] = _public_of(seed, prefix)
    return added


def _public_of(seed: bytes, prefix: str) -> bytes:
    try:
        return UserKey(seed.strip()).public.encode()
    except BadSeed as error:
        message = f"{prefix}seed of the Secret is not one: {error}; remove that key, and a new pair is made"
        raise WrongState("SECRET_INCOMPLETE", message) from error


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
