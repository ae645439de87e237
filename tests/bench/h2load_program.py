"""The program h2load: found on this machine, or downloaded from Debian's packages."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from labelloop.errors import NotFound
from labelloop_cli.local.host import Host

_PACKAGES = ("nghttp2-client", "libev4", "libjemalloc2", "libc-ares2")  # the program, and uncommon libraries
_UPDATE = ("apt-get", "update")
_DOWNLOAD = ("apt-get", "download", *_PACKAGES)


@dataclass(frozen=True)
class Program:
    """A program, and the environment variables by which it finds its libraries."""

    path: str
    environment: dict[str, str]


def find_or_get(cache: Path) -> Program:
    """Return the h2load on PATH, else one downloaded to ``cache``. Raise NotFound if apt cannot get it."""
    if found := shutil.which("h2load"):
        return Program(found, {})
    tree = cache / "h2load"
    if not tree.exists():
        _get(tree)
    libraries = {str(library.parent) for library in tree.glob("usr/lib/**/*.so*")}
    return Program(str(tree / "usr/bin/h2load"), {"LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))})


def _get(tree: Path) -> None:
    """Download and unpack the packages without installing them, which needs no root."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as name:
        folder, host = Path(name), Host()
        try:
            if host.run(_DOWNLOAD, folder).returncode and host.is_root:  # there may be no lists of packages yet
                host.run(_UPDATE, folder)
                host.run(_DOWNLOAD, folder)
            packages = list(folder.glob("*.deb"))
            unpacked = [host.run(("dpkg-deb", "--extract", str(it), "tree"), folder).returncode for it in packages]
        except FileNotFoundError:  # no Debian
            unpacked = []
        if len(unpacked) < len(_PACKAGES) or any(unpacked):
            message = "there is no h2load: install it (Debian, Ubuntu: `sudo apt-get install nghttp2-client`)"
            raise NotFound("NO_H2LOAD", message)
        (folder / "tree").rename(tree)
