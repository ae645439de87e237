"""What is left out of the images' Debian: packages with their files, and what no service reads."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.docker.supplies import ROOT

trim = SimpleNamespace(**runpy.run_path(str(ROOT / "deploy" / "docker" / "trim.py")))
STATUS = "Package: perl-base\nStatus: install ok installed\n\nPackage: libc6\nArchitecture: amd64\n\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small Debian: two packages, one of them unwanted, a translation and a program that runs as its owner."""
    texts = {
        "var/lib/dpkg/status": STATUS,
        "var/lib/dpkg/info/perl-base.list": "/.\n/usr/bin\n/usr/bin/perl\n/usr/share/doc/perl-base/copyright\n",
        "var/lib/dpkg/info/libc6:amd64.list": "/usr/lib/libc.so.6\n",
        "var/lib/dpkg/info/libc6:amd64.postinst": "#!/bin/sh\n",
        "usr/bin/perl": "",
        "usr/bin/su": "",
        "usr/lib/libc.so.6": "",
        "usr/share/doc/perl-base/copyright": "GPL\n",
        "usr/share/doc/libc6/changelog.gz": "",
        "usr/share/locale/de/libc.mo": "",
        "usr/share/zoneinfo/Europe/Vienna": "",
    }
    for name, text in texts.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "usr/bin/su").chmod(0o4755)
    return tmp_path


def test_a_package_goes_with_its_files_and_its_entry(root: Path) -> None:
    assert trim.remove_packages(root, {"perl-base", "not-installed"}) == ["perl-base"]
    assert not (root / "usr/bin/perl").exists()
    assert (root / "usr/lib/libc.so.6").exists()
    assert (root / "var/lib/dpkg/status").read_text() == "Package: libc6\nArchitecture: amd64\n\n"
    assert [file.name for file in (root / "var/lib/dpkg/info").iterdir()] == ["libc6:amd64.list"]


def test_copyright_notices_and_time_zones_stay(root: Path, tmp_path: Path) -> None:
    trim.remove_packages(root, trim.unneeded())
    trim.remove_folders(root, tmp_path / "no-python", tmp_path / "no-packages")
    assert (root / "usr/share/doc/perl-base/copyright").read_text() == "GPL\n"
    assert (root / "usr/share/zoneinfo/Europe/Vienna").exists()
    assert not (root / "usr/share/doc/libc6/changelog.gz").exists()
    assert not (root / "usr/share/locale").exists()


def test_parts_of_python_that_services_never_use_go(root: Path, tmp_path: Path) -> None:
    library, packages = tmp_path / "python", tmp_path / "packages"
    for folder in (library / "ensurepip", library / "asyncio", packages / "pip"):
        folder.mkdir(parents=True)
    trim.remove_folders(root, library, packages)
    assert [folder.name for folder in library.iterdir()] == ["asyncio"]
    assert list(packages.iterdir()) == []


def test_no_program_runs_as_its_owner(root: Path) -> None:
    trim.clear_set_user_id(root)
    assert (root / "usr/bin/su").stat().st_mode & 0o7777 == 0o755
