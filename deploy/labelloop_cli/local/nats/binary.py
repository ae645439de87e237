"""Find the nats-server program on this machine, or download it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import structlog
from labelloop.errors import InvalidInput, NotFound, WrongState

from labelloop_cli.local.host import Host
from labelloop_cli.local.nats.debian import from_debian
from labelloop_cli.local.nats.release import from_release

PROGRAM = "nats-server"
GIVEN = "LABELLOOP_NATS_SERVER"
WAYS_IN = (
    "install the package nats-server (Debian, Ubuntu: `sudo apt-get install nats-server`; macOS: "
    "`brew install nats-server`), or put a nats-server from github.com/nats-io/nats-server/releases on your PATH, "
    f"or name one with {GIVEN}=/path/to/nats-server"
)

log = structlog.get_logger()


def find(cache_dir: Path, host: Host) -> Path | None:
    """Find nats-server: the one that the operator names, else one on PATH, else one downloaded before, else None.

    Raises InvalidInput if the one named is not a program: falling back would run another than the one wanted.
    """
    given = host.env.get(GIVEN)
    if given:
        return _given(Path(given).expanduser().absolute())
    return _on_path(host) or _cached(cache_dir)


def find_or_get(cache_dir: Path, host: Host | None = None) -> Path:
    """Find nats-server as ``find`` does, or else download it with apt or from the official release to ``cache_dir``.

    Raises WrongState if both fail, and Corrupt if the release does not match its published digest.
    """
    host = host or Host()
    return find(cache_dir, host) or _got(cache_dir, host)


def _given(path: Path) -> Path:
    if path.is_file() and os.access(path, os.X_OK):
        return path
    message = f"{GIVEN} names {path}, which is not a program: correct it, or unset it to have nats-server looked for"
    raise InvalidInput("NATS_SERVER_PATH", message, field=GIVEN, path=path)


def _on_path(host: Host) -> Path | None:
    named = [part for part in host.env.get("PATH", "").split(os.pathsep) if part]
    found = shutil.which(PROGRAM, path=os.pathsep.join([*named, *host.more_dirs]))
    return Path(found).absolute() if found else None


def _cached(cache_dir: Path) -> Path | None:
    kept = sorted((cache_dir / PROGRAM).glob(f"*/{PROGRAM}"), reverse=True)  # prefers a release to Debian's older one
    return next((path.absolute() for path in kept if os.access(path, os.X_OK)), None)


def _got(cache_dir: Path, host: Host) -> Path:
    reasons = []
    for name, get in (("apt", from_debian), ("the official release", from_release)):
        log.warning("nats_server_installing", source=name, takes="up to a minute")
        try:
            return get((cache_dir / PROGRAM).absolute(), host)
        except (NotFound, OSError) as error:
            reasons.append(f"{name}: {error}")
    raise WrongState(
        "NATS_SERVER_MISSING",
        f"nats-server, the broker, is missing and could not be had ({'; '.join(reasons)}); {WAYS_IN}",
        reasons="; ".join(reasons),
    )
