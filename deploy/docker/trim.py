"""Leave of a Debian with Python what services run on: ``python3 trim.py [ROOT]``.

It removes the packages of ``unneeded-packages.txt`` with their files, and then documentation, translations and parts of
Python's library that services never use. ``/var/lib/dpkg/status`` goes on listing what is there, for those who scan
images, and copyright notices stay.
"""

from __future__ import annotations

import shutil
import stat
import sys
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path

FOLDERS = (
    *(f"usr/share/{name}" for name in ("bug", "info", "lintian", "locale", "man", "perl5", "python-wheels")),
    *("usr/lib/apt", "var/cache", "var/lib/apt", "var/log"),
)
PATTERNS = ("usr/lib/*/gconv", "usr/lib/*/perl*", "usr/local/bin/pip*", "usr/local/bin/wheel", "usr/local/bin/idle*")
PARTS_OF_PYTHON = ("ensurepip", "idlelib", "lib2to3", "test", "tkinter", "turtledemo", "config-*", "lib-dynload/nis.*")
_SCRIPTS = ("*.config", "*.post*", "*.pre*", "*.templates", "*.triggers", "*.md5sums")


def remaining(status: str, gone: Collection[str]) -> tuple[str, list[str]]:
    """Return dpkg's ``status`` without the packages ``gone``, and those of them that it listed."""
    listed = {
        paragraph.partition("\n")[0].removeprefix("Package: "): paragraph.strip("\n")
        for paragraph in status.strip("\n").split("\n\n")
    }
    kept = "".join(f"{paragraph}\n\n" for name, paragraph in listed.items() if name not in gone)
    return kept, [name for name in listed if name in gone]


def remove_packages(root: Path, gone: Collection[str]) -> list[str]:
    """Remove packages that are installed below ``root``, and return their names; copyright notices stay."""
    dpkg = root / "var/lib/dpkg"
    status, removed = remaining((dpkg / "status").read_text(), gone)
    for package in removed:
        for listing in [*dpkg.glob(f"info/{package}.list"), *dpkg.glob(f"info/{package}:*.list")]:
            for file in _files(root, listing):
                file.unlink(missing_ok=True)
            listing.unlink()
    (dpkg / "status").write_text(status)
    for file in (file for pattern in _SCRIPTS for file in dpkg.glob(f"info/{pattern}")):
        file.unlink()
    return removed


def _files(root: Path, listing: Path) -> Iterator[Path]:
    for line in listing.read_text().splitlines():
        file = root / line.lstrip("/")
        if not file.is_dir() and file.name != "copyright":
            yield file


def remove_folders(root: Path, library: Path, packages: Path) -> None:
    """Remove what no package or only a part of one holds; ``library`` is Python's, ``packages`` that of installers."""
    parts = [path for part in PARTS_OF_PYTHON for path in library.glob(part)]
    matching = [path for pattern in PATTERNS for path in root.glob(pattern)]
    for path in [*(root / folder for folder in FOLDERS), *matching, *parts, *packages.glob("*")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for file in (root / "usr/share/doc").rglob("*"):
        if not file.is_dir() and file.name != "copyright":
            file.unlink()


def clear_set_user_id(root: Path) -> None:
    """Let no program run as its owner: nobody needs to become somebody else."""
    for folder in ("usr/bin", "usr/sbin", "usr/local/bin"):
        for file in (root / folder).glob("*"):
            mode = file.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                file.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def unneeded() -> set[str]:
    """Return the names in ``unneeded-packages.txt``."""
    lines = Path(__file__).with_name("unneeded-packages.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def main(root: Path) -> None:
    """Trim the file system below ``root``."""
    removed = remove_packages(root, unneeded())
    remove_folders(root, Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib")))
    clear_set_user_id(root)
    print(f"{len(removed)} packages removed")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "/"))
