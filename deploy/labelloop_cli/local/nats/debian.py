"""Get nats-server from the distribution's own package."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labelloop.errors import NotFound

from labelloop_cli.local.host import Host

_QUICK = tuple(
    word
    for option in ("Acquire::Retries=0", "Acquire::http::Timeout=5", "Acquire::https::Timeout=5")
    for word in ("-o", option)
)
_DOWNLOAD = ("apt-get", *_QUICK, "download", "nats-server")
_UPDATE = ("apt-get", *_QUICK, "update")


def from_debian(cache: Path, host: Host) -> Path:
    """Download the package and unpack its nats-server under ``cache``. Raises NotFound with apt's own message.

    It is not installed: that needs root, and starts a daemon on port 4222 wherever systemd runs.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        _download(host, folder)
        package = next(folder.glob("nats-server*.deb"), None)
        if package is None:
            raise NotFound("APT_FAILED", "apt-get download left no package")
        _must(host, folder, ("dpkg-deb", "--extract", package.name, "tree"))
        program = folder / "tree" / "usr" / "sbin" / "nats-server"
        if not program.is_file():
            raise NotFound("APT_FAILED", "the package holds no /usr/sbin/nats-server")
        kept = cache / "debian" / "nats-server"
        kept.parent.mkdir(exist_ok=True)
        return program.replace(kept)


def _download(host: Host, folder: Path) -> None:
    if not host.is_root:  # only root may update the package lists; the present ones may do
        _must(host, folder, _DOWNLOAD)
    elif not _succeeds(host, folder, _DOWNLOAD):
        _succeeds(host, folder, _UPDATE)  # fails if any one source does; the download shows whether it mattered
        _must(host, folder, _DOWNLOAD)


def _succeeds(host: Host, folder: Path, command: Sequence[str]) -> bool:
    try:
        _must(host, folder, command)
    except NotFound:
        return False
    return True


def _must(host: Host, folder: Path, command: Sequence[str]) -> None:
    try:
        done = host.run(command, folder)
    except FileNotFoundError:
        raise NotFound("NO_APT", f"there is no {command[0]} on this machine", program=command[0]) from None
    except subprocess.TimeoutExpired:
        raise NotFound("APT_FAILED", f"`{' '.join(command)}` took too long") from None
    if done.returncode:
        said = "; ".join(done.stdout.strip().splitlines()[-2:])
        raise NotFound("APT_FAILED", f"`{' '.join(command)}` failed: {said}", said=said)
