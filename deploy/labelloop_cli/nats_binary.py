"""The program nats-server: find it on this machine, or get it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import structlog
from labelloop.wire.errors import InvalidInput, NotFound, WrongState

from labelloop_cli.host import Host
from labelloop_cli.nats_debian import from_debian
from labelloop_cli.nats_release import from_release

PROGRAM = "nats-server"
GIVEN = "LABELLOOP_NATS_SERVER"
WAYS_IN = (
    "install the package nats-server (Debian, Ubuntu: `sudo apt-get install nats-server`; macOS: "
    "`brew install nats-server`), or put a nats-server from github.com/nats-io/nats-server/releases on your PATH, "
    f"or name one with {GIVEN}=/path/to/nats-server"
)

log = structlog.get_logger()


def find(cache_dir: Path, host: Host) -> Path | None:
    """The nats-server that the operator names, else the one on PATH, else the one got before; None without any.

    Raises InvalidInput when the one named is no program: falling back would run another than the one wanted.
    """
    given = host.env.get(GIVEN)
    if given:
        return _given(Path(given).expanduser().absolute())
    return _on_path(host) or _cached(cache_dir)


def find_or_get(cache_dir: Path, host: Host | None = None) -> Path:
    """As ``find``; where there is none, get it with apt or from the official release, into ``cache_dir``.

    Raises WrongState when no way leads to one, Corrupt when the release is not what its published digest says.
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
    kept = sorted((cache_dir / PROGRAM).glob(f"*/{PROGRAM}"), reverse=True)  # a release before Debian's older one
    return next((path.absolute() for path in kept if os.access(path, os.X_OK)), None)


def _got(cache_dir: Path, host: Host) -> Path:
    reasons = []
    for name, get in (("apt", from_debian), ("the official release", from_release)):
        log.warning("nats-server is not installed; getting it, up to a minute", source=name)
        try:
            return get((cache_dir / PROGRAM).absolute(), host)
        except (NotFound, OSError) as error:
            reasons.append(f"{name}: {error}")
    raise WrongState(
        "NATS_SERVER_MISSING",
        f"nats-server, the broker, is missing and could not be had ({'; '.join(reasons)}); {WAYS_IN}",
        reasons="; ".join(reasons),
    )
