"""Read what lock files pin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IMAGES = Path("deploy/docker/locks")
LOCKS_OF_IMAGES = {
    "trainer": ("shared", "services", "torch", "trainer"),
    "scorer": ("shared", "services", "scorer"),
    "oracle": ("shared", "services", "oracle"),
    "cli": ("shared", "cli"),
}
"""The locks of IMAGES that each image is made of; the oracle's has what deploy/environments/digits.lock pins too."""

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """A library that a lock pins.

    Attributes:
        name: Its name, in lower case with dashes, as package URLs have it.
        version: Its version, without a local part such as ``+cpu``.
        sha256: Digests of its files, one of which was installed.
    """

    name: str
    version: str
    sha256: tuple[str, ...]

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def requirements(lock: str) -> list[str]:
    """Return the requirements in the text of a lock with their hashes, a line or more each; comments are left out."""
    parts = re.split(r"\n(?=\S)", lock.rstrip("\n"))
    return [f"{part}\n" for part in parts if part and not part.startswith("#")]


def pins(locks: Iterable[Path]) -> list[Pin]:
    """Return what ``locks`` pin, by name."""
    found = {
        _pin(requirement).purl: _pin(requirement) for lock in locks for requirement in requirements(lock.read_text())
    }
    return [found[purl] for purl in sorted(found)]


def _pin(requirement: str) -> Pin:
    name, version = requirement.split(maxsplit=1)[0].split("==")
    normal = re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
    return Pin(normal, version.partition("+")[0], tuple(_HASH.findall(requirement)))


def locks_of(image: str) -> list[Path]:
    """Return the locks that an image is made of."""
    more = [Path("deploy/environments/digits.lock")] if image == "oracle" else []
    return [*(IMAGES / f"{name}.lock" for name in LOCKS_OF_IMAGES[image]), *more]
