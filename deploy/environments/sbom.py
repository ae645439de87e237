"""Write a software bill of materials for each image, as CycloneDX: ``python -m environments.sbom [FOLDER]``.

Libraries are those of the image's locks, with all their hashes; Debian's packages are read from the image, where a
Docker engine has it. The tests of the images compare both with what is installed.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from environments.pinned import LOCKS_OF_IMAGES, Pin, locks_of, pins

_DOCKERFILE = Path("deploy/docker/Dockerfile")
_DOCKER_TIMEOUT_S = 60


def main(folder: Path) -> None:
    """Write ``<image>.cdx.json`` into ``folder`` for each image, and print its name and what it lists."""
    folder.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
    for image in LOCKS_OF_IMAGES:
        status, problem = debian_status(f"labelloop/{image}:{version}")
        libraries, packages = pins(locks_of(image)), debian_packages(status)
        file = folder / f"{image}.cdx.json"
        file.write_text(json.dumps(bill(image, version, libraries, packages, problem), indent=2) + "\n")
        print(f"{file}: {len(libraries)} libraries, {problem or f'{len(packages)} packages of Debian'}")


def bill(
    image: str, version: str, libraries: list[Pin], packages: list[dict[str, Any]], problem: str
) -> dict[str, Any]:
    """Return the bill of materials of an image; ``problem`` says why it lists no packages of Debian.

    It is the same whenever it is made of the same parts: it has no time, and its serial number is their digest.
    """
    components = [_python(), *map(_library, libraries), *packages]
    about: dict[str, Any] = {
        "component": {"type": "container", "name": f"labelloop/{image}", "version": version, "bom-ref": "image"}
    }
    if problem:
        about["properties"] = [{"name": "labelloop:incomplete", "value": problem}]
    digest = hashlib.sha256(json.dumps([about, components]).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": about,
        "components": components,
    }


def _library(pin: Pin) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": digest} for digest in pin.sha256]
    about = {"type": "library", "name": pin.name, "version": pin.version, "purl": pin.purl, "bom-ref": pin.purl}
    return {**about, "hashes": hashes}


def _python() -> dict[str, Any]:
    """Return the interpreter, which is no package of Debian in the base image that the Dockerfile names."""
    found = re.search(r"^ARG PYTHON_IMAGE=python:([0-9.]+)", _DOCKERFILE.read_text(), re.MULTILINE)
    assert found, "the Dockerfile names a base image"
    purl = f"pkg:generic/python@{found[1]}"
    return {"type": "platform", "name": "python", "version": found[1], "purl": purl, "bom-ref": purl}


def debian_status(image: str) -> tuple[str, str]:
    """Return the list of installed packages in ``image``, or why there is none."""
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", image, "/var/lib/dpkg/status"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOCKER_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"without packages of Debian: {error}"
    if done.returncode:
        return "", f"without packages of Debian: {done.stderr.strip().splitlines()[0]}"
    return done.stdout, ""


def debian_packages(status: str) -> list[dict[str, Any]]:
    """Return the packages that dpkg's ``status`` lists."""
    return [
        _package(dict(re.findall(r"^([A-Za-z-]+): (.+)$", each, re.MULTILINE))) for each in status.split("\n\n") if each
    ]


def _package(fields: dict[str, str]) -> dict[str, Any]:
    name, version = fields["Package"], fields["Version"]
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={fields['Architecture']}"
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "out/sbom"))
