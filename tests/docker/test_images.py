"""Contents and hardening of the images."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.docker.conftest import IMAGES, image
from tests.docker.engine import Engine

pytestmark = pytest.mark.timeout(900)

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp")
PACKAGES = {
    "trainer": {"labelloop", "trainer_svc"},
    "scorer": {"labelloop", "scorer_svc"},
    "oracle": {"labelloop", "oracle_svc"},
    "cli": {"labelloop", "labelloop_cli"},
}
ALONE = {"torch": {"trainer"}, "onnxruntime": {"scorer"}, "scipy": {"scorer"}, "mlxtend": {"oracle"}}
ABSENT = ("llvmlite", "matplotlib", "pandas", "pyarrow", "label_studio_sdk")
STARTS = {
    "trainer": "import s3fs, trainer_svc.run_controller, trainer_svc.service, torch; assert torch.version.cuda is None",
    "scorer": "import s3fs, scorer_svc.bootstrap",
    "oracle": (
        "import s3fs, oracle_svc.run_controller, oracle_svc.service\n"
        "from oracle_svc.datasets.stand_in import mnist_stand_in\n"
        "assert mnist_stand_in().stand_in"
    ),
    "cli": "from labelloop_cli.local import stack\nfrom labelloop_cli.operations import export, keys, label, run",
}
each = pytest.mark.parametrize("name", IMAGES)


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("image", "inspect", image(name)))[0]
    return found


def run(engine: Engine, name: str, *command: str) -> str:
    """Run ``command`` in the image as in production: a read-only root, no capabilities, no network."""
    program, *arguments = command
    options = ("--rm", "--network", "none", *HARDENED, "--entrypoint", program)
    return engine.docker("run", *options, image(name), *arguments)


@each
def test_an_image_has_title_and_version_and_runs_unprivileged(images: Engine, name: str) -> None:
    said = inspect(images, name)
    print(f"{image(name)}: {said['Size'] / 1e6:.0f} MB")
    assert said["Config"]["User"] == "65532:65532"
    assert said["Config"].get("Healthcheck") is None
    labels = said["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == f"labelloop/{name}"
    assert labels["org.opencontainers.image.version"] == "0.2.0"
    assert run(images, name, "id", "-u") == "65532"


@each
def test_an_image_holds_only_its_own_code_and_libraries(images: Engine, name: str) -> None:
    held = set(run(images, name, "ls", "/opt/labelloop").split())
    assert held == PACKAGES[name] | {"labelloop.dist-info"}
    libraries = set(run(images, name, "ls", "/opt/venv/lib/python3.11/site-packages").split())
    for library, holders in ALONE.items():
        assert (library in libraries) == (name in holders), library
    assert libraries.isdisjoint(ABSENT)


@each
def test_an_image_has_no_installers_and_no_compilers(images: Engine, name: str) -> None:
    look = "for n in pip pip3 ensurepip cc gcc c++ g++ clang ld make; do command -v $n; done; true"
    assert run(images, name, "sh", "-c", look) == ""
    modules = "import importlib.util as u; print([n for n in ('pip', 'ensurepip') if u.find_spec(n)])"
    assert run(images, name, "python", "-c", modules) == "[]"
    assert run(images, name, "sh", "-c", "find / -xdev -name 'pip-*.whl' -o -name pip -type d 2>/dev/null; true") == ""


@each
def test_imports_work_on_a_read_only_root_and_are_precompiled(images: Engine, name: str) -> None:
    program = (
        f"{STARTS[name]}\n"
        "import sys\n"
        "paths = [vars(m).get('__cached__') for m in list(sys.modules.values())]\n"
        "from pathlib import Path\n"
        "print([p for p in paths if p and p.startswith('/opt/') and not Path(p).exists()])"
    )
    assert run(images, name, "python", "-c", program) == "[]"


@each
def test_only_tmp_and_cache_are_writable(images: Engine, name: str) -> None:
    options = ("--rm", "--network", "none", *HARDENED, "--volume", "/cache", "--entrypoint", "sh")
    look = "touch /tmp/a /cache/a && find / -xdev -writable -not -type l"
    assert images.docker("run", *options, image(name), "-c", f"{look} 2>/dev/null; true").split() == ["/tmp", "/cache"]


def test_the_command_shows_its_help(images: Engine) -> None:
    assert "run" in images.docker("run", "--rm", *HARDENED, image("cli"), "--help")
