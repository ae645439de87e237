"""Contents and hardening of the images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from environments import sbom

from tests.docker.conftest import IMAGES, image
from tests.docker.engine import Engine
from tests.docker.stack import SERVICES
from tests.docker.supplies import ROOT

pytestmark = pytest.mark.timeout(900)

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp")
PACKAGES = {
    "trainer": {"labelloop", "trainer_svc"},
    "scorer": {"labelloop", "scorer_svc"},
    "oracle": {"labelloop", "oracle_svc"},
    "cli": {"labelloop", "labelloop_cli"},
}
ALONE = {
    "torch": {"trainer"},
    "onnxruntime": {"scorer"},
    "scipy": {"scorer"},
    "mlxtend": {"oracle"},
    "pyarrow": {"oracle"},
    "gcsfs": {"oracle"},
}
ABSENT = ("llvmlite", "matplotlib", "pandas", "label_studio_sdk")
MB_AT_MOST = {"trainer": 860, "scorer": 375, "oracle": 600, "cli": 250}  # on x86-64, with Debian's Python
SHARED_LAYERS = 3  # the file system, /cache, and libraries of all images
STARTS = {
    "trainer": "import s3fs, trainer_svc.run_controller, trainer_svc.service, torch; assert torch.version.cuda is None",
    "scorer": "import s3fs, scorer_svc.bootstrap",
    "oracle": (
        "import gcsfs.extended_gcsfs, s3fs, oracle_svc.run_controller, oracle_svc.service\n"
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


def run_program(engine: Engine, name: str, program: str, *more: str) -> str:
    """Run a program of this folder in the image, in the same way."""
    mounted = ("--volume", f"{Path(__file__).with_name(program)}:/{program}:ro")
    options = ("--rm", "--network", "none", *HARDENED, *mounted, *more, "--entrypoint", "python")
    return engine.docker("run", *options, image(name), f"/{program}")


@each
def test_an_image_has_title_and_version_and_runs_unprivileged(images: Engine, name: str) -> None:
    said = inspect(images, name)
    print(f"{image(name)}: {said['Size'] / 1e6:.0f} MB")
    assert said["Size"] / 1e6 <= MB_AT_MOST[name]
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


def test_images_share_layers_which_a_node_pulls_once(images: Engine) -> None:
    layers = {name: inspect(images, name)["RootFS"]["Layers"] for name in IMAGES}
    of_all = layers["cli"][:SHARED_LAYERS]
    assert [name for name in IMAGES if layers[name][:SHARED_LAYERS] != of_all] == []
    of_services = layers["oracle"][: SHARED_LAYERS + 1]
    assert [name for name in SERVICES if layers[name][: SHARED_LAYERS + 1] != of_services] == []


@each
def test_every_module_of_pythons_library_is_whole(images: Engine, name: str) -> None:
    program = (
        "import importlib, sysconfig, warnings\n"
        "from pathlib import Path\n"
        "warnings.simplefilter('ignore')\n"  # some are deprecated
        "names = {p.name.split('.')[0] for p in Path(sysconfig.get_path('stdlib'), 'lib-dynload').glob('*.so')}\n"
        "print(len([importlib.import_module(name) for name in names if 'test' not in name and name != '_tkinter']))"
    )
    assert int(run(images, name, "python", "-c", program)) > 20


@each
def test_an_image_has_time_zones_authorities_and_utf_8(images: Engine, name: str) -> None:
    program = (
        "import os, ssl, sys, zoneinfo\n"
        "print(zoneinfo.ZoneInfo('Europe/Vienna').key, sys.getfilesystemencoding(), sys.stdout.encoding,\n"
        "      len(os.listdir(ssl.get_default_verify_paths().capath)) > 100)"
    )
    assert run(images, name, "python", "-c", program).split() == ["Europe/Vienna", "utf-8", "utf-8", "True"]


@each
def test_no_program_runs_as_its_owner(images: Engine, name: str) -> None:
    assert run(images, name, "sh", "-c", "find / -xdev -type f -perm /6000 2>/dev/null; true") == ""


@each
def test_debian_lists_only_packages_that_are_there(images: Engine, name: str) -> None:
    look = (
        "grep -h -x '/usr/.*\\.so\\.[0-9]*' /var/lib/dpkg/info/*.list | while read f; do test -e $f || echo $f; done;"
        "grep -c ^Package: /var/lib/dpkg/status; command -v perl dpkg apt-get bash; true"
    )
    [count] = run(images, name, "sh", "-c", look).split()
    assert 30 < int(count) < 100


@each
def test_the_bill_of_materials_names_what_is_installed(
    images: Engine, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DOCKER_HOST", images.environment["DOCKER_HOST"])
    sbom.main(tmp_path)
    bill = json.loads((tmp_path / f"{name}.cdx.json").read_text())
    assert "properties" not in bill["metadata"]
    named = {each["purl"] for each in bill["components"] if each.get("hashes")}
    program = "import importlib.metadata as m; print(*(f'{d.name}@{d.version}' for d in m.distributions()))"
    installed = dict(each.split("@") for each in run(images, name, "python", "-c", program).split())
    assert installed.pop("labelloop") == "0.2.0"
    normal = {re.sub("[-_.]+", "-", library).lower(): version for library, version in installed.items()}
    assert {f"pkg:pypi/{library}@{version.partition('+')[0]}" for library, version in normal.items()} == named
    packages = run(images, name, "sh", "-c", "grep -c ^Package: /var/lib/dpkg/status")
    assert sum(each["purl"].startswith("pkg:deb/") for each in bill["components"]) == int(packages)


def test_the_oracle_reads_parquet_from_folders_and_object_stores(images: Engine) -> None:
    plain = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false"  # else it asks for the kind of bucket by gRPC, for a minute
    said = run_program(images, "oracle", "reading_pools.py", "--env", plain)
    columns = {"id": ["a", "b"], "value": [1.5, 2.5]}
    assert said.splitlines() == ["[['a', 1.5], ['b', 2.5]]", f"s3 {columns}", f"gs {columns}"]


def test_the_scorer_has_all_numerics_that_features_and_rankings_need(images: Engine) -> None:
    said = run_program(images, "scorer", "computing.py")
    assert said.split() == ["clusters", "directions", "texts", "spectrum", "graph"]


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
