"""Install Label Studio for tests in an environment of its own: ``python tests/queues/label_studio_venv.py``.

This takes minutes, once per version. The user's cache folder holds the program, and data with a migrated database and
a first user. As these take minutes too, tests start from copies.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

_PINS = Path(__file__).with_name("label_studio_pins.txt")
_SEED_WITHIN_S = 900
EMAIL, PASSWORD = "owner@example.com", "only-for-tests"
LEGACY_TOKEN = "0123456789abcdef0123456789abcdef01234567"


def version() -> str:
    """Return the pinned version."""
    return next(
        line.removeprefix("label-studio==")
        for line in _PINS.read_text().splitlines()
        if line.startswith("label-studio==")
    )


def cache() -> Path:
    return user_cache_path("labelloop") / "label-studio"


def command() -> Path:
    """Return the path of the program, which may not exist."""
    return cache() / f"venv-{version()}" / "bin" / "label-studio"


def seed() -> Path:
    """Return the folder of the initial data, which may not exist."""
    return cache() / f"data-{version()}"


def environment(data: Path) -> dict[str, str]:
    """Return variables for a Label Studio over ``data`` that may call this machine and no other."""
    return os.environ | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "SSRF_PROTECTION_ENABLED": "false",
        "ML_BLOCK_LOCAL_IP": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "DEBUG": "false",
    }


def install() -> None:
    """Install program and initial data if missing. One process does it; others wait."""
    cache().mkdir(parents=True, exist_ok=True)
    with FileLock(cache() / "lock"):
        if not command().exists():
            _install_program()
        if not seed().exists():
            _make_seed()


def _install_program() -> None:
    venv = command().parent.parent
    with _on_failure_remove(venv):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip: list[str | Path] = [
            venv / "bin" / "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            _PINS,
        ]
        subprocess.run(pip, check=True)


def _make_seed() -> None:
    data = cache() / f"data-{secrets.token_hex(4)}"
    with _on_failure_remove(data):
        data.mkdir()
        init: list[str | Path] = [
            command(),
            "init",
            "--no-browser",
            "--enable-legacy-api-token",
            "--user-token",
            LEGACY_TOKEN,
        ]
        init += ["--username", EMAIL, "--password", PASSWORD]
        subprocess.run(init, check=True, env=environment(data), timeout=_SEED_WITHIN_S, stdin=subprocess.DEVNULL)
        data.rename(seed())


@contextmanager
def _on_failure_remove(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


if __name__ == "__main__":
    install()
    print(command())
