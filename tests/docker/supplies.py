"""Supply builds from Debian and this machine instead of a registry, which may be unreachable.

Downloads that take a minute are kept in the user's cache folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from environments.uv import pip
from labelloop.artifacts.store import digest_of

from tests.docker.engine import Engine

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
LOCKS = ROOT / "deploy" / "docker" / "locks"
DIGITS = ROOT / "deploy" / "environments" / "digits.lock"
_PORT = 8000
_PACKAGES = (
    "python3",
    "python3-venv",
    "ca-certificates",
    "binutils",
)  # the last one is installed by the Dockerfile elsewhere


def base_image(engine: Engine, cache: Path) -> None:
    """Import Debian with its own Python 3.11 under the name of the Dockerfile's base image. Slim images are Debian too,
    except for Python, which has another path in them."""
    archive = cache / f"bookworm-{digest_of(repr(_PACKAGES).encode())[:16]}.tar"
    if not archive.exists():
        _debootstrap(archive)
    engine.docker("import", archive, argument("PYTHON_IMAGE"))


def _debootstrap(archive: Path) -> None:
    draft = archive.with_suffix(".draft")
    with tempfile.TemporaryDirectory() as tree:
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", "bookworm", tree],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        left_out = ("--exclude=./var/cache", "--exclude=./var/lib/apt/lists")
        subprocess.run(["tar", "--create", "--directory", tree, *left_out, "--file", draft, "."], check=True)
    draft.rename(archive)


def broker_image(engine: Engine, binary: Path, name: str) -> None:
    """Build an image with this machine's nats-server, at the official path."""
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(binary, Path(context) / "nats-server")
        dockerfile = f'FROM {argument("PYTHON_IMAGE")}\nCOPY nats-server /nats-server\nENTRYPOINT ["/nats-server"]\n'
        (Path(context) / "Dockerfile").write_text(dockerfile)
        engine.docker("build", "--tag", name, context)


@contextmanager
def wheels_served(engine: Engine, cache: Path) -> Iterator[str]:
    """Serve a folder of the locked wheels; yield pip's options for builds on the engine's network."""
    wheels = _downloaded(cache)
    server = subprocess.Popen(
        engine.inside(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", wheels, str(_PORT)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"--no-index --find-links http://127.0.0.1:{_PORT}/"
    finally:
        server.terminate()
        server.wait()


def _downloaded(cache: Path) -> Path:
    """Return a folder with all that the current locks name."""
    locks = [*sorted(LOCKS.glob("*.lock")), DIGITS]
    by_name = {lock.stem: lock for lock in locks}
    wheels = cache / f"wheels-{digest_of(b''.join(lock.read_bytes() for lock in locks))[:16]}"
    if not wheels.exists():
        draft = cache / "wheels.draft"  # keeps the files of an interrupted download
        command = [*pip(), "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        torch = ["--extra-index-url", argument("TORCH_CPU_INDEX"), "--retries", "0"]
        for names, more in ((["torch"], torch), ([lock.stem for lock in locks if lock.stem != "torch"], [])):
            requirements = [part for name in names for part in ("--requirement", str(by_name[name]))]
            done = subprocess.run(
                [*command, "--dest", str(draft), "--python-version", "3.11", *more, *requirements],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        for old in cache.glob("wheels-*"):
            shutil.rmtree(old)
        draft.rename(wheels)
    return wheels


def argument(name: str) -> str:
    """Return the Dockerfile's default of an argument."""
    found = re.search(rf"^ARG {name}=(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found, f"the Dockerfile has no ARG {name}"
    return found[1]
